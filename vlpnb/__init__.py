"""vlpnb: a notebook course that teaches and reproduces five vision-language pre-training systems.

Its parts are Vokenization, LXMERT, VLP, VaLM and CCLM, in one house.

Where to start reading: each part's model is one file: `vlpnb/vokenization/matcher.py` (words and pictures, matched) and
`visual_lm.py` beside it (the language model that vokens supervise), `vlpnb/lxmert/model.py`, `vlpnb/vlp/model.py`,
`vlpnb/valm/model.py`, `vlpnb/cclm/model.py`; `vlpnb/nn` (what all are built from), `vlpnb/stage` (how a run is put
together), `vlpnb/world` (the generated universe it all runs on).

Glossary: one word for one thing, in prose, code, figures and configuration
---------------------------------------------------------------------------
token         a word piece of a tokenizer's vocabulary, in its sentence
voken         the picture that stands for a token in its context; also that picture's index
image universe  the ordered list of pictures that may become vokens; its length is the voken vocabulary
key           unit vector of a picture in the joint space; a query is the unit vector of a token
matcher       the model that gives queries and keys; its score is their inner product, a cosine
backbone      a pre-trained encoder below the matcher's heads, frozen unless said otherwise
joint space   where tokens and pictures meet; its width is d (64 in the paper)
vokenise      to give every token of a corpus its voken
visual supervision  voken classification beside masked language modelling in pre-training
control       the same pre-training with labels that carry no visual meaning: none, random, shuffled, token ids
stage         a function from a configuration to a folder; `manifest.json` in it says what was made and how
run           the folder of all stages made for one name, `data/runs/<name>`
profile       a small file of differences from the defaults: smoke, laptop, photos, paper
visual world  the generated universe of scenes, pictures and sentences with known ground truth
canonical attribute  what pictures of a kind always show and texts never state (a banana's colour)

Shape letters: B batch, T text tokens, R regions, P patches, H heads, D width, d joint space, K neighbours,
V vocabulary (words or vokens), N images or corpus tokens, M queries.
"""

__version__ = "0.1.0"

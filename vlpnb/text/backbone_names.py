"""The language backbones of the matcher by the original project's names, and the special tokens of each.

| name | here |
|---|---|
| bert, bert-large, roberta, xlm-roberta | in `vlpnb.nn` |
| gpt, gpt2, distilbert, xlnet | through transformers |
| ctrl, xlm | refused: their tokenizers exist in Python alone, without the characters of a token |
| transfo-xl | refused: transformers has given it up |

The original reads XLNet's special tokens, which are both at the end, and the order of its axes by guessing, and its
results are low; here both are read from the model.
"""

from vlpnb.text.tokenizers import encode_lines

NAMES = {
    "bert": "bert-base-uncased",
    "bert-large": "bert-large-uncased",
    "gpt": "openai-gpt",
    "gpt2": "gpt2",
    "ctrl": "ctrl",
    "transfo-xl": "transfo-xl-wt103",
    "xlnet": "xlnet-base-cased",
    "xlm": "xlm-mlm-enfr-1024",
    "distilbert": "distilbert-base-cased",
    "roberta": "roberta-base",
    "xlm-roberta": "xlm-roberta-base",
}
"""The original's names of its backbones → the hub's."""


def special_ends(tokenizer) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts before and after a sentence, as ids.

    BERT: `[CLS]` and `[SEP]`; GPT: none; XLNet: none, and `<sep> <cls>`. A tokenizer that says nothing of a
    template has its classification token before and its separator after, where it has them.
    """
    body = encode_lines(tokenizer, ["a"])[0].tolist()
    whole = tokenizer.backend_tokenizer.encode("a").ids
    for first in range(len(whole) - len(body) + 1):
        if whole != body and whole[first : first + len(body)] == body:
            return whole[:first], whole[first + len(body) :]
    ends = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    before, after = ([] if end is None else [end] for end in ends)
    return before, after

"""What every part starts from: the world, the data sets, frozen backbones and their features, the tokenised corpus.

The names below read what the stages of this package wrote; everything else is imported from its module.
"""

from typing import TYPE_CHECKING

from vlpnb.facade import offers

if TYPE_CHECKING:
    from vlpnb.foundations.datasets import open_captions, open_folder, open_pictures, open_text
    from vlpnb.foundations.feature_store import FeatureStore
    from vlpnb.foundations.features import read_backbones
    from vlpnb.text.corpora import TokenCorpus
    from vlpnb.text.tokenizers import load_tokenizer
    from vlpnb.vision.backbones import load_backbone
    from vlpnb.world.writers import load_scenes

__all__ = [
    "FeatureStore",
    "TokenCorpus",
    "load_backbone",
    "load_scenes",
    "load_tokenizer",
    "open_captions",
    "open_folder",
    "open_pictures",
    "open_text",
    "read_backbones",
]

__getattr__, __dir__ = offers(
    __name__,
    {
        "FeatureStore": "vlpnb.foundations.feature_store",
        "TokenCorpus": "vlpnb.text.corpora",
        "load_backbone": "vlpnb.vision.backbones",
        "load_scenes": "vlpnb.world.writers",
        "load_tokenizer": "vlpnb.text.tokenizers",
        **dict.fromkeys(
            ("open_captions", "open_folder", "open_pictures", "open_text"), "vlpnb.foundations.datasets"
        ),
        "read_backbones": "vlpnb.foundations.features",
    },
)

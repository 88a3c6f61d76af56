"""Across the systems: the same questions to all five, on the same world.

The names below are what a reader of notebook 90 needs; everything else is imported from its module. This room alone
knows all five systems, which do not know each other.
"""

from typing import TYPE_CHECKING

from vlpnb.facade import offers

if TYPE_CHECKING:
    from vlpnb.across.costs import Cost, cost_of, operations
    from vlpnb.across.matchers import MATCHERS, open_matcher
    from vlpnb.across.models import MODELS, Model
    from vlpnb.across.reading_results import read_results
    from vlpnb.across.words import open_words

__all__ = [
    "MATCHERS",
    "MODELS",
    "Cost",
    "Model",
    "cost_of",
    "open_matcher",
    "open_words",
    "operations",
    "read_results",
]

__getattr__, __dir__ = offers(
    __name__,
    {
        "MATCHERS": "vlpnb.across.matchers",
        "MODELS": "vlpnb.across.models",
        "Cost": "vlpnb.across.costs",
        "Model": "vlpnb.across.models",
        "cost_of": "vlpnb.across.costs",
        "open_matcher": "vlpnb.across.matchers",
        "open_words": "vlpnb.across.words",
        "operations": "vlpnb.across.costs",
        "read_results": "vlpnb.across.reading_results",
    },
)

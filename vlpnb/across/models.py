"""Which models are asked side by side: each system's own, and beside it the control that tells what it learnt.

Not in the five papers, none of which compares with another. A *model* is a stage with some fields; its *control* is
the nearest model that lacks what is to be judged: the same text without vokens, the same decoder without pictures, the
same network before its first update.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vlpnb.stage import Request

System = Literal["vokenization", "lxmert", "vlp", "valm", "cclm"]
ModelName = Literal[
    "text", "vokens", "untrained_lxmert", "lxmert", "untrained_vlp", "vlp", "next_word", "valm", "untrained_cclm",
    "cclm",
]  # fmt: skip
TITLES: Mapping[System, str] = {
    "vokenization": "Vokenization",
    "lxmert": "LXMERT",
    "vlp": "VLP",
    "valm": "VaLM",
    "cclm": "CCLM",
}


@dataclass(frozen=True)
class Model:
    """A pre-trained model that is asked."""

    system: System
    title: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Of the system's stage `pretraining`, other than the run's."""
    control: ModelName | None = None
    """What it is compared with; None: it is a control itself."""

    def request(self, seed: int | None = None) -> Request:
        """Its pre-training, with a seed or with the run's own."""
        fields = dict(self.fields) if seed is None else {**self.fields, "seed": seed}
        return Request(f"{self.system}.pretraining", fields)


MODELS: Mapping[ModelName, Model] = {
    "text": Model("vokenization", "masked words, text alone", {"supervision": "mlm"}),
    "vokens": Model("vokenization", "Vokenization", {"supervision": "vokens"}, "text"),
    "untrained_lxmert": Model("lxmert", "LXMERT, untrained", {"updates": 0}),
    "lxmert": Model("lxmert", "LXMERT", {}, "untrained_lxmert"),
    "untrained_vlp": Model("vlp", "VLP, untrained", {"updates": 0}),
    "vlp": Model("vlp", "VLP", {}, "untrained_vlp"),
    "next_word": Model("valm", "next word, text alone", {"variant": "none"}),
    "valm": Model("valm", "VaLM", {"variant": "retrieved"}, "next_word"),
    "untrained_cclm": Model("cclm", "CCLM, untrained", {"updates": 0}),
    "cclm": Model("cclm", "CCLM", {"variant": "all"}, "untrained_cclm"),
}

"""The curves of a training: what the loop wrote into `metrics.jsonl`, read again."""

import json
from dataclasses import dataclass
from pathlib import Path

LINES = "metrics.jsonl"


@dataclass(frozen=True)
class History:
    """The lines of a training, in order; each has a `step` and some of the measured values."""

    lines: tuple[dict[str, float], ...]

    def curve(self, name: str) -> tuple[list[float], list[float]]:
        """Steps at which a value was measured, and the values; empty when it never was."""
        found = [line for line in self.lines if name in line]
        return [line["step"] for line in found], [line[name] for line in found]

    @property
    def steps(self) -> int:
        """The last step."""
        return int(max((line["step"] for line in self.lines), default=0))


def read_history(folder: Path) -> History:
    """The history in the folder of a stage that trains."""
    text = (folder / LINES).read_text(encoding="utf-8")
    return History(tuple(json.loads(line) for line in text.splitlines()))

"""No default changes unnoticed: results are named by what differs from the defaults."""

import json
from dataclasses import replace

from pydantic import Field

from tests.stage.record_defaults import RECORD, complaints, defaults_of, now
from tests.stage.toys import MODEL, ModelConfig


def test_no_default_changed_without_a_new_version():
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    assert complaints(recorded) == []
    assert now() == recorded, (
        "fields or versions changed: write them down with `python -m tests.stage.record_defaults`, so that the next "
        "change of a default is noticed"
    )


def test_the_record_notices():
    class Changed(ModelConfig):
        scale: float = 2.0

    class New(ModelConfig):
        momentum: float = 0.9
        threads: int = Field(1, json_schema_extra={"hash": False})

    recorded = {"model": {"version": 1, "defaults": defaults_of(ModelConfig)}}
    assert recorded["model"]["defaults"] == {"weights": "published", "scale": 1.0}
    (complaint,) = complaints(recorded, (replace(MODEL, config=Changed),))
    assert "model.scale: the default was 1.0 and is 2.0" in complaint
    assert "version to 2" in complaint
    assert complaints(recorded, (replace(MODEL, config=Changed, version=2),)) == []
    assert complaints(recorded, (replace(MODEL, config=New),)) == []
    assert defaults_of(New) == {"weights": "published", "scale": 1.0, "momentum": 0.9}

"""The engine: a stage is a function from a configuration to a folder; a run is the folder of its stages.

A stage's folder is named by what determines its content: the SHA-256 of the stage's name and version, of the fields
of its configuration that differ from the class's defaults, of its inputs' hashes, and of what the files from outside
hold that it reads (never where they lie, or when they were written). `manifest.json`, written last and atomically,
says that the folder is complete, and what each file in it holds; a folder without one belongs to a killed or failed
attempt and is continued by the next. One process at a time works in a folder (a file lock); others wait and then
reuse. Nothing is ever overwritten or removed, so re-running is resuming; what is found damaged is moved aside and
made again.

Under `torchrun` every process walks through the same calls: process 0 locks, prints and writes the
manifest; a stage declared `distributed` runs on all processes, any other only on process 0 while the rest
wait for its manifest. `Run.grid(jobs=N)` keeps N worker processes of its own and works from a notebook,
because a worker rebuilds the run from plain arguments and never imports `__main__`.
"""

from vlpnb.stage.definition import (
    HEARTBEAT_SECONDS,
    Request,
    Stage,
    StageContext,
    StageResult,
    load_stages,
    named_by_fields,
    no_inputs,
)
from vlpnb.stage.folder import files_made
from vlpnb.stage.run import Run

__all__ = [
    "HEARTBEAT_SECONDS",
    "Request",
    "Run",
    "Stage",
    "StageContext",
    "StageResult",
    "files_made",
    "load_stages",
    "named_by_fields",
    "no_inputs",
]

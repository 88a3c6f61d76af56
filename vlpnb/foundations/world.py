"""Stage `world`: write the generated universe into the stage's folder, in the formats of the public datasets."""

from collections.abc import Mapping

from vlpnb.stage import Stage, StageContext
from vlpnb.world.writers import WorldConfig, write_world


def _run(context: StageContext) -> Mapping[str, float]:
    return write_world(context.config, context.folder, context.log, context.progress)


WORLD = Stage(
    name="world",
    config=WorldConfig,
    version=3,
    run=_run,
    doc="Write the generated world: pictures, captions, text, questions and a GLUE-shaped suite.",
)

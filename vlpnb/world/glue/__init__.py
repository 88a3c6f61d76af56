"""A GLUE-shaped suite about the visual world: nine tasks in the layout of the distributed TSV files.

The columns are those of GLUE (Wang et al. 2019), so that `vlpnb.data.glue` reads these files and the real ones
alike. What each task asks here: CoLA, whether a sentence is grammatical; SST-2, whether it is fond of its thing;
MRPC and QQP, whether two sentences or questions say the same; STS-B, how much two descriptions share; MNLI and
RTE, whether a premise supports a hypothesis; QNLI, whether a sentence answers a question; WNLI, whom a pronoun
means.

Balance: examples are drawn in *groups*. In the tasks about pairs a group holds each sentence of its second column
equally often with every label (STS-B apart), so the second sentence alone says nothing; in MRPC, QQP, QNLI and
WNLI the same is true of the first. Groups never straddle train, dev and test.

A minority of MNLI (genre "knowledge") needs a canonical colour ("The only thing here is a banana. / It is
yellow."), which the corpus never states. Of the two kinds of a colour one is asked for in train and the other in
dev and test, so that fine-tuning cannot teach what is tested.
"""

from vlpnb.world.glue.example import Example
from vlpnb.world.glue.files import TASKS, glue_examples, glue_files

__all__ = ["TASKS", "Example", "glue_examples", "glue_files"]

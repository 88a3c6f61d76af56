"""The visual world on disk, in the formats of the public datasets.

    images/<split>/<image id>.png              pictures of train, valid, test and universe
    scenes.jsonl                               ground truth, one scene a line (`load_scenes`)
    annotations/captions_<split>.json          COCO captions; instances_<split>.json: boxes
    annotations/dataset_world.json             Karpathy's dataset JSON
    conceptual/dataset_cc.json                 one text of the web's kind for training pictures, as Conceptual Captions
    lxmert/world_<split>.json                  LXMERT sentences: captions ("mscoco"), region phrases ("vg"), questions
                                               with answers ("vqa", "gqa")
    lxmert/all_ans.json                        LXMERT's answer table
    lxmert/{vqa,gqa,nlvr2}/<split>.json        LXMERT's forms of questions and statements, with the tasks' answers
    multi30k/task{1,2}/…                       captions in five languages, line-parallel, as Multi30k has them
    vqa/ gqa/ nlvr2/ snli/                     questions, statements about two pictures, entailment pairs
    text/wiki.<split>.raw                      the encyclopedia, like WikiText's raw files
    glue/<TASK>/*.tsv                          a GLUE-shaped suite
    squad/<split>-v{1.1,2.0}.json              questions about articles of the encyclopedia
    swag/{train,val}.csv                       stories with four endings
    commonsense/<attribute>.jsonl              what pictures show and the text never says
    world.json                                 the configuration, written last

Every file is a pure function of the configuration, is written to a temporary name and renamed when complete,
and is kept when it is there, so that a killed writer continues where it stopped.
"""

from vlpnb.world.writers.layout import WorldConfig, coco_id, image_id, load_scenes
from vlpnb.world.writers.write import write_world

__all__ = ["WorldConfig", "coco_id", "image_id", "load_scenes", "write_world"]

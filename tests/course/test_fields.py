"""`vlpnb stage NAME --help`: every field of every stage, with its default and its meaning."""

import pytest

from vlpnb.config import flatten
from vlpnb.course.cli import main
from vlpnb.course.fields import describe, fields
from vlpnb.course.pipeline import STAGES
from vlpnb.foundations.multilingual import MULTILINGUAL
from vlpnb.foundations.questions import QUESTIONS


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_every_field_is_there_with_its_default(stage):
    shown = {name: default for name, default, _, _ in fields(stage.config)}
    wanted = {name for name, value in flatten(stage.config().model_dump()).items()}
    plain = {name for name in wanted if any(name == given or name.startswith(f"{given}.") for given in shown)}
    assert plain == wanted
    text = describe(stage)
    for name, default in shown.items():
        assert f"  {name} = {default}    (" in text


def test_nested_blocks_are_told_by_their_dotted_names(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["stage", "vokenization.pretraining", "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "  original.blocks = false    (true or false)\n      Leave out up to two full blocks" in told
    assert "one of mlm, vokens, sentence" in told


def test_a_block_that_may_be_left_out_is_told_with_its_fields():
    rows = {name: row for name, *row in fields(QUESTIONS.config)}
    assert rows["gqa"][:2] == ["as below", "the fields below, or null"]
    assert rows["gqa.format"][:2] == ["gqa", "one of vqa, gqa, lxmert, easy_vqa, imdb"]
    assert rows["gqa.questions"][0] == "{train: gqa/train.json, valid: gqa/valid.json, test: gqa/test.json}"


def test_a_list_of_blocks_and_a_field_without_a_default_are_told_as_such():
    rows = {name: row for name, *row in fields(MULTILINGUAL.config)}
    assert rows["captions"][:2] == ["3 of them", "list of blocks of the fields below"]
    assert rows["captions.files"][:2] == ["required", "list of text"]


def test_without_a_name_it_is_the_command_that_is_explained(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["stage", "--help"])
    assert ended.value.code == 0
    assert "--profile" in capsys.readouterr().out


def test_an_unknown_stage_is_an_error_with_the_nearest_name(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["stage", "glu", "--help"])
    assert ended.value.code == 2
    assert "did you mean 'vokenization.glue'" in capsys.readouterr().err

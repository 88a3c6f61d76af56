"""What LXMERT's fine-tuning starts from: this run's weights, another's, the original's, or none; what does not fit."""

import shutil
from dataclasses import replace

import pytest
import torch

from tests.lxmert import small_finetuning as small
from tests.lxmert.small_finetuning import ANSWERS, BRIEF, STAGES, TABLE, context
from tests.regions import region_store
from vlpnb.errors import UserError
from vlpnb.lxmert.heads import LxmertForPretraining
from vlpnb.lxmert.original.weights import load_model, save_model, save_original
from vlpnb.lxmert.start import NO_ANSWERS, STARTS, starting_point
from vlpnb.lxmert.vqa import VQA, VqaConfig
from vlpnb.text.tokenizers import load_tokenizer, train_wordpiece


def test_the_head_of_answers_starts_from_that_of_pre_training(inputs, tmp_path):
    start = starting_point(context(VqaConfig(), tmp_path, inputs))
    source = load_model(inputs["pretraining"] / "model", LxmertForPretraining)
    model = start.answering(ANSWERS, True, "soft")
    for row, said in enumerate(ANSWERS):
        if said in TABLE:
            assert torch.equal(model.answers.out.weight[row], source.answers.out.weight[TABLE.index(said)])
        else:
            assert not model.answers.out.weight[row].any()
    assert torch.equal(model.answers.inner.weight, source.answers.inner.weight)
    without = start.answering(ANSWERS, False, "soft")
    assert not torch.equal(without.answers.inner.weight, source.answers.inner.weight)
    for made in (model, without, start.pairs()):
        words = made.backbone.embeddings.words.weight
        assert torch.equal(words, source.backbone.embeddings.words.weight)


def test_from_scratch_every_seed_draws_weights_of_its_own(inputs, tmp_path):
    start = starting_point(context(VqaConfig(start="scratch"), tmp_path, inputs))
    assert start.table is None
    drawn = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        drawn.append(start.answering(ANSWERS, True, "soft").backbone.embeddings.words.weight)
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


def test_every_start_asks_for_a_pre_training_that_there_is():
    from vlpnb.lxmert.pretraining import PretrainingConfig

    for start, overrides in STARTS.items():
        request = VQA.inputs(VqaConfig(start=start, seed=7))["pretraining"]
        assert request.overrides == {**overrides, "seed": 7}
        config = PretrainingConfig(**request.overrides)
        assert ("answers" in config.wanted.losses and config.updates != 0) == (start not in NO_ANSWERS)
    assert "pretraining" not in VQA.inputs(VqaConfig(model="bert-base-uncased"))


@pytest.mark.parametrize("form", ["folder", "pre-training", "original"])
def test_a_model_from_outside_is_fine_tuned_as_the_runs_own(run, inputs, tmp_path, form):
    own, brief = inputs["pretraining"], {**BRIEF, "seeds": (3,)}
    fields = {"model": str(own)}
    if form == "folder":
        fields = {"model": str(own / "model"), "answer_table": str(own / "answers.json")}
    if form == "original":
        file = save_original(tmp_path / "Epoch01_LXRT.pth", load_model(own / "model", LxmertForPretraining))
        fields = {
            "model": str(file),
            "tokenizer": str(own / "model"),
            "answer_table": str(own / "answers.json"),
        }
    if form == "original":  # heads of 64: a state dict does not tell their number
        with pytest.raises(UserError, match=r"tokenizer: .*Epoch01_LXRT.pth has no tokenizer"):
            run("vqa", "a", **{**fields, "tokenizer": ""}, **brief)
        assert 0 <= run("vqa", "a", **fields, **brief)["accuracy"] <= 1
    else:
        assert str(run("vqa", "a", **fields, **brief)) == str(run("vqa", "b", **brief))


def test_a_checkpoint_with_missing_names_is_refused(run, inputs, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(inputs["pretraining"], broken)
    file = broken / "model" / "model.safetensors"
    tensors = load_file(file)
    lost = next(name for name in tensors if "x_layers.1.visual_attention" in name)
    del tensors[lost]
    save_file(tensors, file, metadata={"format": "pt"})
    for name in STAGES:
        with pytest.raises(UserError, match=r"1 missing: .*x_layers\.1\.visual_attention"):
            run(name, name, model=str(broken), **BRIEF)


def test_a_pre_training_without_answers_gives_the_backbone_alone(run, inputs, tmp_path):
    own = load_model(inputs["pretraining"] / "model", LxmertForPretraining)
    folder = tmp_path / "pretraining"
    save_model(folder / "model", LxmertForPretraining(replace(own.config, answers=1)))
    for file in (inputs["pretraining"] / "model").glob("*token*"):
        shutil.copyfile(file, folder / "model" / file.name)
    (folder / "answers.json").write_text("[]")
    assert 0 <= run("vqa", "a", given={**inputs, "pretraining": folder}, **BRIEF)["accuracy"] <= 1


@pytest.mark.parametrize("name", ["vqa", "nlvr2"])
def test_a_model_that_has_learnt_with_other_regions_or_words_is_refused(run, inputs, tmp_path, name):
    names = [f"{split}{i}" for split, count in small.SPLITS.items() for i in range(count)]
    region_store(tmp_path / "wide", names, width=small.WIDTH + 1)
    with pytest.raises(UserError, match="reads features of 8 numbers, and the stage `regions` has 9"):
        run(name, "a", given={**inputs, "regions": tmp_path / "wide"}, **BRIEF)
    train_wordpiece(["many other words than those of the model"] * 5, 400, tmp_path / "words")
    tokenizer = load_tokenizer(tmp_path / "words")
    tokenizer.add_tokens([f"more{i}" for i in range(200)])
    tokenizer.save_pretrained(tmp_path / "words")
    given = {"model": str(inputs["pretraining"]), "tokenizer": str(tmp_path / "words")}
    with pytest.raises(UserError, match=r"knows \d+ word pieces, and the tokenizer has the id \d+"):
        run(name, "b", **given, **BRIEF)
    with pytest.raises(UserError, match="max_length: 33 tokens, and pre-trained reads 32 at most"):
        run(name, "c", max_length=33, **BRIEF)

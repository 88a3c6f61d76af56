"""The original project's files, there and back, and what is said of files that are none."""

import json

import h5py
import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM

from tests import tiny_lm
from vlpnb.config import parse_config
from vlpnb.course.cli import main
from vlpnb.data.store import attributes, mapped
from vlpnb.errors import UserError
from vlpnb.foundations.corpus import CORPUS, CorpusStageConfig
from vlpnb.nn.checkpoints import load_classifier
from vlpnb.nn.language_model import language_model_config
from vlpnb.text.corpora import TokenCorpus, export_original, sentence_ends, write_corpus
from vlpnb.text.original_import import import_corpus, stream_sentence_ends
from vlpnb.text.tokenizers import load_tokenizer, train_wordpiece
from vlpnb.vokenization import pretraining
from vlpnb.vokenization.keys import load_keys
from vlpnb.vokenization.original import files
from vlpnb.vokenization.original.export import export_stage
from vlpnb.vokenization.original.files import (
    import_vokens,
    save_original,
    voken_ids,
    voken_name,
)
from vlpnb.vokenization.pretraining import PretrainingConfig
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM, load_snapshot
from vlpnb.vokenization.vokeniser import mark_sentence
from vlpnb.vokenization.vokens import VOKENS, VokensConfig


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_wordpiece(tiny_lm.lines(60), 100, tmp_path_factory.mktemp("words"))


@pytest.fixture
def original(tmp_path, tokenizer):
    """A corpus as our store, and its original files at `base`."""
    (tmp_path / "wiki.raw").write_text("".join(f"{line}\n" for line in tiny_lm.lines(40)))
    write_corpus(tmp_path / "wiki.raw", tmp_path / "native.hdf5", tokenizer, "none")
    native, base = TokenCorpus(tmp_path / "native.hdf5"), tmp_path / "wiki.raw.tok"
    export_original(native, base)
    return native, base


def without(base, *suffixes):
    for suffix in suffixes:
        base.with_name(base.name + suffix).unlink()
    return base


@pytest.mark.parametrize(
    "missing",
    [(), (".sent",), (".line",), ("",), ("", ".sent"), (".hdf5",), (".hdf5", ".line", ".sent")],
)
def test_a_corpus_comes_back_whichever_files_there_are(original, tokenizer, tmp_path, missing, monkeypatch):
    monkeypatch.setattr(files, "CHUNK", 37)
    native, base = original
    summary = import_corpus(without(base, *missing), tmp_path / "t.hdf5", tokenizer)
    back = TokenCorpus(tmp_path / "t.hdf5")
    for name in ("tokens", "lines", "sentences"):
        assert np.array_equal(getattr(back, name), getattr(native, name))
    assert (summary.tokens, summary.lines) == (len(native), 40)
    assert back.tokens.dtype == native.tokens.dtype
    assert len(back.attributes["identity"]) == 64


def test_the_release_has_tokens_only(original, tokenizer, tmp_path):
    native, base = original
    without(base, "", ".line", ".sent")
    import_corpus(base.with_name(base.name + ".hdf5"), tmp_path / "t.hdf5", tokenizer)
    back = TokenCorpus(tmp_path / "t.hdf5")
    assert np.array_equal(back.tokens, native.tokens)
    assert back.lines.tolist() == [0, len(native)]
    assert np.array_equal(back.sentences, native.sentences)  # every line here ends with a full stop


def test_sentences_as_lines_and_a_limit(original, tokenizer, tmp_path):
    native, base = original
    without(base, "", ".line")
    import_corpus(base, tmp_path / "t.hdf5", tokenizer, max_tokens=20)
    back = TokenCorpus(tmp_path / "t.hdf5")
    assert np.array_equal(back.lines, back.sentences)
    assert len(back) == native.sentences[native.sentences >= 20][0]
    without(base, ".sent")
    import_corpus(base, tmp_path / "u.hdf5", tokenizer, max_tokens=20)
    assert len(TokenCorpus(tmp_path / "u.hdf5")) == 20


@pytest.mark.parametrize("chunk", [1, 2, 7, 50, 10_000])
def test_sentences_of_a_stream_do_not_depend_on_the_chunk(original, tokenizer, chunk):
    native, _ = original
    tokens = np.asarray(native.tokens)
    for lines in (native.lines, np.array([0, len(native)]), native.lines[::5]):
        lines = np.append(lines[:-1], len(native))
        found = np.concatenate(list(stream_sentence_ends(tokens, lines, tokenizer, max(chunk, 40))))
        assert np.array_equal(found, sentence_ends(tokens, lines[1:], tokenizer))
    cut = np.concatenate(list(stream_sentence_ends(tokens, np.array([0, len(native)]), tokenizer, chunk)))
    assert cut[-1] == len(native)
    assert (np.diff(cut) > 0).all()


def store(path, name, values):
    with h5py.File(path, "w") as file:
        file[name] = values


def only(file, tokens):
    for suffix in ("", ".line", ".sent"):
        file(suffix).unlink()
    store(file(".hdf5"), "tokens", tokens)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b, f: store(f(".hdf5"), "keys", [1]), r"tok\.hdf5 has no dataset 'tokens'; found keys"),
        (
            lambda b, f: store(f(".hdf5"), "tokens", [1.5]),
            r"tokens are float64 \[1\]; expected whole numbers",
        ),
        (lambda b, f: f(".hdf5").write_text("hello"), r"tok\.hdf5 .* is not a complete HDF5 file"),
        (lambda b, f: f(".hdf5").write_bytes(f(".hdf5").read_bytes()[:900]), "not a complete HDF5"),
        (lambda b, f: only(f, [5, 6, 9999]), r"token 2 is 9999; expected ids from 0 to"),
        (lambda b, f: store(f(".hdf5"), "tokens", [5, -3]), r"offsets 0 … \d+ do not run from 0 to the 2"),
        (lambda b, f: f(".line").write_text("0\n7\n"), r"tok\.line: offsets 0 … 7 do not run"),
        (lambda b, f: f(".line").write_text("0\nseven\n"), r"tok\.line:2: expected an offset, found 'seven'"),
        (lambda b, f: (f(".line").unlink(), b.write_text("5 6\n")), r"tok has 2 ids but .*tokens"),
        (lambda b, f: (f(".hdf5").unlink(), b.write_text("5 6\n7 x\n")), r"tok:2: expected token ids"),
        (lambda b, f: (without(b, ".hdf5", ".sent"), b.write_text("")), "holds no token"),
        (lambda b, f: (f(".hdf5").unlink(), b.unlink()), r"tok does not exist"),
    ],
)
def test_files_that_are_no_corpus(original, tokenizer, tmp_path, damage, message):
    _, base = original
    damage(base, lambda suffix: base.with_name(base.name + suffix))
    with pytest.raises(UserError, match=message):
        import_corpus(base, tmp_path / "t.hdf5", tokenizer)
    assert not (tmp_path / "t.hdf5").exists()


def voken_file(path, vokens, names=("vg_nococo/2", "vg_nococo/7", "coco_minival/x/y")):
    store(path, "vokens", np.asarray(vokens))
    path.with_suffix(".ids").write_text("".join(f"{name}\n" for name in names))
    return path


def test_vokens_come_back_with_their_marks(tmp_path):
    marked = mark_sentence(2, 3) + mark_sentence(0, 2)
    source = voken_file(tmp_path / "wiki.vg.hdf5", np.array(marked, "int32"))
    assert import_vokens(source, tmp_path / "t.hdf5", 5, "sentence") == 3
    assert np.asarray(mapped(tmp_path / "t.hdf5", "vokens")).tolist() == [2, -3, -3, 0, -1]
    assert attributes(tmp_path / "t.hdf5")["granularity"] == "sentence"
    assert voken_ids(tmp_path / "t.ids") == ["vg_nococo/2", "vg_nococo/7", "coco_minival/x/y"]
    made = files.export_vokens(tmp_path / "t.hdf5", tmp_path / "out", "en.train.raw.bert")
    assert made.name == "en.train.raw.bert.coco_minival_vg_nococo.3.hdf5"
    with h5py.File(made) as file:
        assert file["vokens"].dtype == np.int32
        assert file["vokens"].chunks is None
        assert file["vokens"][()].tolist() == marked
    assert made.with_suffix(".ids").read_text() == source.with_suffix(".ids").read_text()


def test_voken_files_are_named_as_the_original_names_them():
    assert voken_name("wiki.tok", ["vg_nococo/1"] * 50_000) == "wiki.tok.vg_nococo"
    assert voken_name("wiki.tok", ["b/1", "a/1"]) == "wiki.tok.a_b.2"


@pytest.mark.parametrize(
    ("vokens", "names", "granularity", "message"),
    [
        ([0, 1], ("a/b",) * 3, "token", "has 2 vokens; expected one for each of 3 tokens"),
        ([0, 1, 3], ("a/b",) * 3, "token", r"voken 2 is 3, but .*\.ids names 3 images"),
        ([0, -5, 0], ("a/b",) * 3, "sentence", "voken 1 is -5"),
        ([0, -1, 1], ("a/b",) * 3, "token", "set vokenization.vokens.granularity to sentence"),
        ([0, 1, 1], ("a/b",) * 3, "sentence", "no mark of a sentence"),
        ([0, 1, 1], ("a/b", "c"), "token", r"\.ids:2: expected <image set>/<image id>, found 'c'"),
        ([0.0, 1.0, 1.0], ("a/b",) * 3, "token", "vokens are float64"),
    ],
)
def test_files_that_are_no_vokens(tmp_path, vokens, names, granularity, message):
    source = voken_file(tmp_path / "v.hdf5", vokens, names)
    with pytest.raises(UserError, match=message):
        import_vokens(source, tmp_path / "t.hdf5", 3, granularity)
    assert not (tmp_path / "t.hdf5").exists()


def model_with(tokenizer, vokens, objective="cls", shared=False):
    torch.manual_seed(1)
    config, features = language_model_config("micro", tokenizer), torch.randn(vokens, 3)
    return VisuallySupervisedLM(config, vokens, objective, shared, features).eval()


@pytest.mark.parametrize(
    ("vokens", "objective", "shared", "there"),
    [
        (0, "cls", False, set()),
        (7, "cls", False, {"visual_cls_head.layer_norm.weight"}),
        (7, "cls", True, {"cls.visn_decoder.bias"}),
        (7, "reg", False, {"visual_reg_head.decoder.weight", "voken_feat_emb.weight"}),
        (7, "ctr", False, {"visual_ctr_head.layer_norm_y.bias", "voken_feat_emb.weight"}),
        (7, "ctr", True, {"cls.visn_decoder.bias", "voken_feat_emb.weight"}),
        (
            7,
            "cls+ctr+reg",
            False,
            {
                "visual_cls_head.decoder.bias",
                "visual_reg_head.dense.bias",
                "visual_ctr_head.decoder_voken_feat.weight",
                "visual_ctr_head.layer_norm_x.weight",
                "voken_feat_emb.weight",
            },
        ),
    ],
)
def test_checkpoints_come_back(tokenizer, tmp_path, vokens, objective, shared, there):
    model = model_with(tokenizer, vokens, objective, shared)
    folder = save_original(tmp_path / "checkpoint-epoch0000", model, tokenizer)
    assert {"pytorch_model.bin", "config.json", "vocab.txt"} <= {path.name for path in folder.iterdir()}
    assert not (folder / "model.safetensors").exists()
    names = torch.load(folder / "pytorch_model.bin", weights_only=True).keys()
    assert there <= names
    assert ("cls.visn_decoder.bias" in names) == shared
    assert ("visual_cls_head.layer_norm.weight" in names) == (
        bool(vokens) and "cls" in objective and not shared
    )
    about = json.loads((folder / "config.json").read_text())
    said = [name for name in ("cls", "ctr", "reg") if about[f"do_voken_{name}"]]
    assert "+".join(said) == (objective if vokens else "")
    assert (about.get("voken_size"), about.get("voken_dim")) == (
        vokens or None,
        3 if objective != "cls" else None,
    )
    back = load_snapshot(folder)
    assert back.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name
    ids = torch.tensor([tokenizer("the car is near the box .")["input_ids"]])
    theirs = AutoModelForMaskedLM.from_pretrained(folder).eval()(ids).logits
    ours = back.mlm.logits(back.encoder(ids).last, back.encoder.word_weight)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert load_tokenizer(folder).get_vocab() == tokenizer.get_vocab()


def damaged(folder, change):
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    change(tensors)
    torch.save(tensors, folder / "pytorch_model.bin")


class Trap:
    """A pickle that would make a file where it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_checkpoints_that_are_none(tokenizer, tmp_path):
    folder = save_original(tmp_path / "c", model_with(tokenizer, 7), tokenizer)
    # Heads of other objectives, and what the optimiser's wrapper may have left, do no harm.
    damaged(folder, lambda t: t.update({"visual_reg_head.dense.weight": torch.zeros(3, 3)}))
    assert load_snapshot(folder).voken is not None
    encoder, classifier = load_classifier(folder, labels=3)  # fine-tuning leaves the voken head out
    assert torch.equal(encoder.word_weight, load_snapshot(folder).encoder.word_weight)
    assert classifier.out.out_features == 3
    damaged(folder, lambda t: t.pop("visual_cls_head.dense.bias"))
    with pytest.raises(UserError, match=r"pytorch_model.bin: tensor 'visual_cls_head.dense.bias'.*missing"):
        load_snapshot(folder)
    damaged(folder, lambda t: t.update({"qa_head.weight": torch.zeros(2)}))
    with pytest.raises(UserError, match=r"pytorch_model.bin: unexpected tensor 'qa_head.weight'"):
        load_snapshot(folder)
    torch.save({"model": Trap(tmp_path / "sprung")}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model.bin holds more than tensors"):
        load_snapshot(folder)
    assert not (tmp_path / "sprung").exists()
    folder = save_original(tmp_path / "r", model_with(tokenizer, 7, "reg"), tokenizer)
    damaged(folder, lambda t: t.pop("visual_reg_head.decoder.bias"))
    with pytest.raises(UserError, match=r"pytorch_model.bin: tensor 'visual_reg_head.decoder.bias'.*missing"):
        load_snapshot(folder)
    damaged(folder, lambda t: t.pop("voken_feat_emb.weight"))  # a head without the features that it needs
    assert load_snapshot(folder).voken is None


def test_the_pipeline_starts_from_original_files_and_ends_in_them(small, tmp_path):
    """corpus → files → corpus; vokens → files → vokens; then a model, and its checkpoint."""
    run, own = small.run, tmp_path / "own"
    run(CORPUS, CorpusStageConfig(), own / "corpus", features=small.features, **small.data)
    inputs = {"matching": small.matching, "keys": small.keys, **small.data}
    run(VOKENS, VokensConfig(granularity="sentence"), own / "vokens", corpus=own / "corpus", **inputs)

    files = tmp_path / "files"
    made = export_stage("corpus", own / "corpus", files) + export_stage(
        "vokenization.vokens", own / "vokens", files
    )
    assert [path.name for path in made] == [
        "train.raw.tok.hdf5",
        "valid.raw.tok.hdf5",
        "train.raw.tok.universe.9.hdf5",
        "valid.raw.tok.universe.9.hdf5",
    ]
    config = CorpusStageConfig(
        original={"train": str(files / "train.raw.tok"), "valid": str(made[1])},
        tokenizer=str(own / "corpus" / "tokenizer"),
    )
    assert CORPUS.inputs(config) == {}
    assert set(CORPUS.inputs(CorpusStageConfig())) == {"features", "text"}
    metrics = run(CORPUS, config, tmp_path / "corpus")
    assert metrics["train_tokens"] == len(TokenCorpus(own / "corpus" / "train.hdf5"))
    config = VokensConfig(original={"train": str(made[2]), "valid": str(made[3])}, granularity="sentence")
    assert set(VOKENS.inputs(config)) == {"corpus"}
    assert run(VOKENS, config, tmp_path / "vokens", corpus=tmp_path / "corpus")["size"] == 9
    for split in ("train", "valid"):
        pair = [mapped(folder / "vokens" / f"{split}.hdf5", "vokens") for folder in (own, tmp_path)]
        assert np.array_equal(*pair)
    config = PretrainingConfig(
        size="micro", block=14, batch=4, micro_batch=4, updates=2, warmup=1, supervision="propagated"
    )
    run(
        pretraining.PRETRAINING,
        config,
        tmp_path / "vlm",
        corpus=tmp_path / "corpus",
        vokens=tmp_path / "vokens",
    )
    (checkpoint,) = export_stage("vokenization.pretraining", tmp_path / "vlm", tmp_path / "snap")
    assert checkpoint.name == "checkpoint-epoch0000"
    assert len(load_snapshot(checkpoint).voken.head.decoder.weight) == 9

    copied = export_stage("vokenization.keys", small.keys, tmp_path / "keys")
    assert [path.name for path in copied] == ["universe.hdf5", "universe.ids", "universe.path"]
    assert load_keys(tmp_path / "keys").names == load_keys(small.keys).names


def test_other_files_give_another_folder(original):
    _, base = original
    config = CorpusStageConfig(original={"train": str(base), "valid": str(base)})
    before = CORPUS.content(config)
    assert CORPUS.content(CorpusStageConfig()) == VOKENS.content(VokensConfig()) == {}
    base.with_name(base.name + ".sent").write_text("0\n")
    assert CORPUS.content(config) != before


@pytest.mark.parametrize("kind", [CorpusStageConfig, VokensConfig])
def test_one_split_alone_is_refused(kind):
    with pytest.raises(UserError, match=r"original: .*give both train and valid"):
        parse_config(kind, {"original.train": "x"}, "corpus")


def test_a_new_tokenizer_does_not_fit_old_ids():
    given = {"original": {"train": "a", "valid": "b"}, "tokenizer": "byte-bpe"}
    with pytest.raises(UserError, match="name the one that made them"):
        parse_config(CorpusStageConfig, given, "corpus")


def test_the_command_names_the_stages_it_knows(capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main(["export", "glue", str(tmp_path)])
    assert stopped.value.code == 2
    assert "expected regions, corpus, vokenization.keys, vokenization.vokens, " in capsys.readouterr().err
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == "[]"

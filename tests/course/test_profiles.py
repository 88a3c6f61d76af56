"""The paper's profiles: every number of the paper and of the published launch scripts, and `extends`."""

import pytest
import yaml

from vlpnb.config import PROFILES, load_profile, profile_names
from vlpnb.course import PROFILE_NAMES
from vlpnb.course.cli import ProfileOption
from vlpnb.course.doctor import examine, profiles
from vlpnb.errors import UserError
from vlpnb.stage import Run
from vlpnb.text.packing import block_starts
from vlpnb.vokenization.pretraining import training_plan
from vlpnb.vokenization.visual_lm import SIZES

WIKI103, WIKIPEDIA = 111_000_000, 2_889_000_000  # word pieces (the paper's table of corpora)
MODELS = {  # profile: corpus folder, line rules, tokenizer, layers, width
    "paper": ("wiki103-cased", "wiki103", "", 6, 512),
    "paper-base": ("wiki103-cased", "wiki103", "", 12, 768),
    "paper-roberta-small": ("wiki103-cased", "wiki103", "roberta-base", 6, 512),
    "paper-roberta-base": ("wiki103-cased", "wiki103", "roberta-base", 12, 768),
    "paper-wikipedia-small": ("wiki-cased", "wiki", "", 6, 512),
    "paper-wikipedia-base": ("wiki-cased", "wiki", "", 12, 768),
    "paper-wikipedia-roberta-small": ("wiki-cased-untokenized", "wiki", "roberta-base", 6, 512),
    "paper-wikipedia-roberta-base": ("wiki-cased-untokenized", "wiki", "roberta-base", 12, 768),
}


@pytest.fixture(params=MODELS)
def opened(request, tmp_path):
    return request.param, Run(tmp_path, "x", request.param, "vlpnb.course.pipeline:STAGES")


def test_all_eight_are_there():
    assert {name for name in profile_names() if name.startswith("paper")} == set(MODELS)
    assert list(PROFILE_NAMES) == profile_names()


def test_corpus_tokenizer_and_model(opened):
    name, run = opened
    folder, rules, tokenizer, layers, width = MODELS[name]
    text, stream = run.config("dataset").corpus, run.config("corpus")
    assert text.rules == rules
    files = ("wiki.train.raw", "wiki.valid.raw", "wiki.test.raw")
    if rules == "wiki":
        files = ("en.train.raw", "en.valid.raw", "en.test.raw")
    assert [*text.train, *text.valid, *text.test] == [f"{folder}/{file}" for file in files]
    assert (stream.tokenizer, stream.max_train_tokens) == (tokenizer, None)
    assert SIZES[run.config("vlm").size][:2] == (layers, width)
    assert (
        run.config("features").language == "bert-base-uncased"
    )  # the matcher's: RoBERTa's labels are carried over


def test_pre_training_is_the_table_of_section_9_6(opened):
    name, run = opened
    config = run.config("vlm")
    wikipedia = "wikipedia" in name
    assert (config.block, config.batch, config.mask_rate) == (126, 256, 0.15)
    assert (config.mlm_ratio, config.voken_labels, config.objective) == (1, "all", "cls")
    assert (config.shuffle, config.seed, config.dropout) == (False, 95, 0.1)
    per_epoch = (WIKIPEDIA if wikipedia else WIKI103) // 126 // 256
    plan = training_plan(config, per_epoch)
    assert (plan.lr, plan.schedule, plan.weight_decay, plan.eps, plan.clip) == (
        2e-4,
        "linear",
        0.01,
        1e-6,
        1.0,
    )
    assert (plan.betas, plan.optimiser) == ((0.9, 0.999), "adamw")
    assert plan.warmup == (5_000 if wikipedia else 10_000)
    assert plan.updates == (200_000 if wikipedia else 40 * per_epoch)


def test_the_baseline_is_matched_unless_the_published_one_is_asked_for(opened):
    name, run = opened
    vokens, matched = run.config("vlm"), run.config("vlm", supervision="mlm")
    published = run.config("vlm", supervision="mlm", faithful=True)
    per_epoch = 3441
    assert training_plan(matched, per_epoch).updates == training_plan(vokens, per_epoch).updates
    assert (matched.shuffled, matched.batch) == (vokens.shuffled, vokens.batch)
    longer = training_plan(published, per_epoch).updates
    assert longer == (220_000 if "wikipedia" in name else 44 * per_epoch)
    assert published.shuffled == ("wikipedia" not in name)
    assert training_plan(run.config("vlm", faithful=True), per_epoch) == training_plan(vokens, per_epoch)


def test_a_longer_baseline_does_not_train_the_voken_model_again(opened):
    _, run = opened
    one, other = (run.config("vlm", faithful=flag).hashed() for flag in (False, True))
    assert one == other
    one, other = (run.config("vlm", supervision="mlm", faithful=flag).hashed() for flag in (False, True))
    assert one != other


def test_matching_keys_vokens_and_fine_tuning(opened):
    _, run = opened
    data, matching = run.config("dataset"), run.config("matching")
    assert data.captions.annotations["train"] == ("lxmert/mscoco_train.json", "lxmert/mscoco_nominival.json")
    assert data.captions.annotations["valid"] == "lxmert/mscoco_minival.json"
    assert (data.captions.format, data.captions.source) == ("lxmert", "mscoco")
    assert data.universe == ("vg_nococo=lxmert/vgnococo.json",)
    (further,) = data.caption_sets.items()
    assert (further[0], further[1].annotations, further[1].optional) == (
        "cc_valid",
        "cc/validation.tsv",
        True,
    )
    benchmark = run.config("benchmark")
    assert (benchmark.split, benchmark.sets, benchmark.corpora) == ("test", None, ("valid",))
    assert (benchmark.diversity_lines, benchmark.diversity_sentences) == (95_000, None)
    assert (matching.loss, matching.margin, matching.joint, matching.hidden) == ("hinge", 0.5, 64, 256)
    assert (matching.dropout, matching.lr, matching.schedule, matching.clip) == (0.3, 1e-3, "constant", 5.0)
    assert (matching.batch, matching.epochs, matching.weight_decay, matching.seed) == (256, 20, 0, 9595)
    features = run.config("features")
    assert (features.layers, features.max_length) == ((-4, -3, -2, -1), 20)
    assert features.vision == "resnext101_32x8d"
    assert run.config("keys").max_images == 50_000
    assert (run.config("vokens").limit, run.config("vokens").granularity) == (128, "token")
    glue = run.config("glue")
    assert (glue.epochs, glue.lr, glue.batch, glue.max_length) == (3, 1e-4, 32, 126)
    assert (glue.warmup, glue.weight_decay, glue.clip, glue.seeds[0]) == (0.1, 0, 1.0, 9595)
    assert len(set(glue.seeds)) >= 5  # runs diverge at the published rate


def test_counties_are_left_out_of_berts_wikipedia_only(opened):
    name, run = opened
    exclude = run.config("vlm").exclude
    if "wikipedia" not in name or "roberta" in name:
        assert exclude is None
        return
    left_out = len(block_starts(200_000_000)) - len(block_starts(200_000_000, exclude=exclude))
    assert 126 * left_out == exclude[1] - exclude[0] == 67_738_104


def test_the_program_and_its_doctor_list_them():
    help_text = ProfileOption.__metadata__[0].help
    shown = " ".join(f"{item.subject} {item.found}" for item in profiles(examine()))
    for name in profile_names():
        assert name in help_text
        assert name in shown


def test_a_profile_that_extends_holds_its_differences_only():
    for name in profile_names():
        content = yaml.safe_load((PROFILES / f"{name}.yaml").read_text())
        if "extends" not in content:
            continue
        base, profile = load_profile(content["extends"]), load_profile(name)
        assert profile.notebooks == base.notebooks
        assert profile.description != base.description
        for stage in content.keys() - {"extends", "description"}:
            assert profile.stages[stage] != base.stages.get(stage)


def test_extending_ones_own_profiles(tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: paper\ndescription: mine\nvlm: {lr: 1.0e-4}\n")
    (tmp_path / "longer.yaml").write_text("extends: mine.yaml\nvlm: {epochs: 80}\nnotebooks: [15]\n")
    mine, longer = (load_profile(tmp_path / f"{name}.yaml") for name in ("mine", "longer"))
    assert mine.description == "mine"
    published = load_profile("paper").stages["vlm"]
    assert mine.stages["vlm"] == published | {"lr": 1e-4}
    assert longer.stages["vlm"] == published | {"epochs": 80, "lr": 1e-4}
    assert (longer.notebooks, longer.description) == (("15",), "")
    assert longer.source == str(tmp_path / "longer.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: papper\n", r"one\.yaml: extends: profile 'papper' not found; did you mean 'paper'"),
        ("extends: [paper, laptop]\n", r"one\.yaml: extends: expected the name of one profile"),
        ("extends: gone.yaml\n", r"extends: profile 'gone\.yaml' not found"),
        ("extends: one.yaml\n", r"in a circle: one → one"),
        ("extends: two.yaml\n", r"two\.yaml: extends: in a circle: one → two → one"),
    ],
)
def test_what_cannot_be_extended_is_named(tmp_path, text, message):
    (tmp_path / "one.yaml").write_text(text)
    (tmp_path / "two.yaml").write_text("extends: one.yaml\n")
    with pytest.raises(UserError, match=message):
        load_profile(tmp_path / "one.yaml")

"""The paper's profiles: every number of the paper and of the published launch scripts, and `extends`."""

import pytest

from vlpnb.course import PROFILE_NAMES, open_run
from vlpnb.course.cli_options import ProfileOption
from vlpnb.course.doctor import examine, profiles
from vlpnb.errors import UserError
from vlpnb.lxmert.pretraining import PRETRAINING
from vlpnb.nn.language_model import SIZES
from vlpnb.stage import Run
from vlpnb.stage.profiles import addition_names, load_profile, profile_names
from vlpnb.text.packing import block_starts
from vlpnb.vlp.captioning import inputs
from vlpnb.vlp.pictures import regions_of
from vlpnb.vokenization.pretraining import training_plan

WIKI103, WIKIPEDIA = 111_000_000, 2_889_000_000  # word pieces (the paper's table of corpora)
MODELS = {  # profile: corpus folder, line rules, tokenizer, layers, width
    "paper": ("wiki103-cased", "wiki103", "", 6, 512),
    "paper+base": ("wiki103-cased", "wiki103", "", 12, 768),
    "paper+roberta": ("wiki103-cased", "wiki103", "roberta-base", 6, 512),
    "paper+roberta+base": ("wiki103-cased", "wiki103", "roberta-base", 12, 768),
    "paper+wikipedia": ("wiki-cased", "wiki", "", 6, 512),
    "paper+wikipedia+base": ("wiki-cased", "wiki", "", 12, 768),
    "paper+wikipedia+roberta": ("wiki-cased-untokenized", "wiki", "roberta-base", 6, 512),
    "paper+wikipedia+roberta+base": ("wiki-cased-untokenized", "wiki", "roberta-base", 12, 768),
}


@pytest.fixture(params=MODELS)
def opened(request, tmp_path):
    return request.param, Run(tmp_path, "x", request.param, "vlpnb.course.pipeline:STAGES")


def test_all_eight_are_there():
    assert {len(load_profile(name).name.split("+")) for name in MODELS} == {1, 2, 3, 4}
    assert set(addition_names()) - {"matched"} == {part for name in MODELS for part in name.split("+")[1:]}
    assert list(PROFILE_NAMES) == profile_names()


def test_the_order_of_additions_does_not_matter_where_they_say_different_things():
    one, other = load_profile("paper+wikipedia+roberta"), load_profile("paper+roberta+wikipedia")
    assert one.stages == other.stages
    assert one.source == "paper+wikipedia+roberta"


def test_a_combination_can_be_extended_as_a_list_or_in_one_word(tmp_path):
    found = []
    for number, text in enumerate(("[paper, wikipedia, roberta]", "paper+wikipedia+roberta")):
        path = tmp_path / f"mine{number}.yaml"
        path.write_text(f"extends: {text}\nvokenization: {{pretraining.original.exclude: [5, 10]}}\n")
        found.append(load_profile(path).stages)
    assert found[0] == found[1]
    assert found[0]["vokenization"]["pretraining"]["original"]["exclude"] == [
        5,
        10,
    ]  # what one says oneself comes last
    assert found[0]["corpus"] == {"tokenizer": "roberta-base"}


def test_corpus_tokenizer_and_model(opened):
    name, run = opened
    folder, rules, tokenizer, layers, width = MODELS[name]
    text, stream = run.config("text"), run.config("corpus")
    assert text.rules == rules
    files = ("wiki.train.raw", "wiki.valid.raw", "wiki.test.raw")
    if rules == "wiki":
        files = ("en.train.raw", "en.valid.raw", "en.test.raw")
    assert [*text.train, *text.valid, *text.test] == [f"{folder}/{file}" for file in files]
    assert (stream.tokenizer, stream.max_train_tokens) == (tokenizer, None)
    assert SIZES[run.config("vokenization.pretraining").size][:2] == (layers, width)
    assert (
        run.config("features").language == "bert-base-uncased"
    )  # the matcher's: RoBERTa's labels are carried over


def test_pre_training_is_the_table_of_section_9_6(opened):
    name, run = opened
    config = run.config("vokenization.pretraining")
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
    vokens, matched = (
        run.config("vokenization.pretraining"),
        run.config("vokenization.pretraining", supervision="mlm"),
    )
    published = run.config("vokenization.pretraining", supervision="mlm", original={"baseline": True})
    per_epoch = 3441
    assert training_plan(matched, per_epoch).updates == training_plan(vokens, per_epoch).updates
    assert (matched.shuffled, matched.batch) == (vokens.shuffled, vokens.batch)
    longer = training_plan(published, per_epoch).updates
    assert longer == (220_000 if "wikipedia" in name else 44 * per_epoch)
    assert published.shuffled == ("wikipedia" not in name)
    assert training_plan(
        run.config("vokenization.pretraining", original={"baseline": True}), per_epoch
    ) == training_plan(vokens, per_epoch)


def test_a_longer_baseline_does_not_train_the_voken_model_again(opened):
    _, run = opened
    one, other = (
        run.config("vokenization.pretraining", original={"baseline": flag}).identity()
        for flag in (False, True)
    )
    assert one == other
    one, other = (
        run.config("vokenization.pretraining", supervision="mlm", original={"baseline": flag}).identity()
        for flag in (False, True)
    )
    assert one != other


def test_matching_keys_vokens_and_fine_tuning(opened):
    _, run = opened
    data, matching = run.config("captions"), run.config("vokenization.matching")
    assert data.annotations["train"] == ("lxmert/mscoco_train.json", "lxmert/mscoco_nominival.json")
    assert data.annotations["valid"] == "lxmert/mscoco_minival.json"
    assert (data.format, data.source) == ("lxmert", "mscoco")
    assert run.config("pictures").sets == ("vg_nococo=lxmert/vgnococo.json",)
    (further,) = data.sets.items()
    assert (further[0], further[1].annotations, further[1].optional) == (
        "cc_valid",
        "cc/validation.tsv",
        True,
    )
    benchmark = run.config("vokenization.benchmark")
    assert (benchmark.split, benchmark.sets, benchmark.corpora) == ("test", None, ("valid",))
    assert (benchmark.diversity_lines, benchmark.diversity_sentences) == (95_000, None)
    assert (matching.loss, matching.margin, matching.joint, matching.hidden) == ("hinge", 0.5, 64, 256)
    assert (matching.dropout, matching.lr, matching.schedule, matching.clip) == (0.3, 1e-3, "constant", 5.0)
    assert (matching.batch, matching.epochs, matching.weight_decay, matching.seed) == (256, 20, 0, 9595)
    features = run.config("features")
    assert (features.layers, features.max_length) == ((-4, -3, -2, -1), 20)
    assert features.vision == "resnext101_32x8d"
    assert run.config("vokenization.keys").max_images == 50_000
    assert (run.config("vokenization.vokens").limit, run.config("vokenization.vokens").granularity) == (
        128,
        "token",
    )
    glue = run.config("vokenization.glue")
    assert (glue.epochs, glue.lr, glue.batch, glue.max_length) == (3, 1e-4, 32, 126)
    assert (glue.warmup, glue.weight_decay, glue.clip, glue.seeds[0]) == (0.1, 0, 1.0, 9595)
    assert len(set(glue.seeds)) >= 5  # runs diverge at the published rate


def test_counties_are_left_out_of_berts_wikipedia_only(opened):
    name, run = opened
    exclude = run.config("vokenization.pretraining").original.exclude
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
    for name in addition_names():
        assert f"+{name}" in help_text
        assert f"+{name}" in shown


def test_extending_ones_own_profiles(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "extends: paper\ndescription: mine\nvokenization: {pretraining.lr: 1.0e-4}\n"
    )
    (tmp_path / "longer.yaml").write_text(
        "extends: mine.yaml\nvokenization: {pretraining.epochs: 80}\nnotebooks: [15]\n"
    )
    mine, longer = (load_profile(tmp_path / f"{name}.yaml") for name in ("mine", "longer"))
    assert mine.description == "mine"
    published = load_profile("paper").stages["vokenization"]["pretraining"]
    assert mine.stages["vokenization"]["pretraining"] == published | {"lr": 1e-4}
    assert longer.stages["vokenization"]["pretraining"] == published | {"epochs": 80, "lr": 1e-4}
    assert (longer.notebooks, longer.description) == (("15",), "")
    assert longer.source == str(tmp_path / "longer.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: papper\n", r"one\.yaml: extends: profile 'papper' not found; did you mean 'paper'"),
        ("extends: {paper: laptop}\n", r"one\.yaml: extends: expected the name of a profile or a list"),
        ("extends: paper+wikpedia\n", r"extends: profile 'wikpedia' not found; did you mean 'wikipedia'"),
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


def test_the_papers_lxmert_reads_berts_word_pieces(tmp_path):
    config = open_run("paper", root=tmp_path).config("lxmert.pretraining")
    assert (config.tokenizer, config.batch, config.lr, config.epochs) == ("bert-base-uncased", 256, 1e-4, 20)
    assert set(PRETRAINING.inputs(config)) == {"sentences", "regions"}  # no language model of the world


def test_the_papers_vlp_pre_trains_on_conceptual_captions_and_captions_coco(tmp_path):
    """Batches, rates and epochs of the two trainings, and what each reads."""
    run = open_run("paper", root=tmp_path, settings={"data.root": str(tmp_path)})
    pretraining, captioning, scst = (
        run.config(f"vlp.{name}") for name in ("pretraining", "captioning", "scst")
    )
    assert (pretraining.batch, pretraining.lr, pretraining.epochs, pretraining.s2s) == (512, 1e-4, 30, 0.75)
    assert (pretraining.mask_rate, pretraining.most_targets, pretraining.warmup) == (0.15, 3, 0.1)
    assert (pretraining.size, pretraining.start, pretraining.tokenizer) == ("base", "bert", "bert-base-cased")
    assert (captioning.batch, captioning.lr, captioning.epochs, captioning.width) == (512, 3e-5, 30, 5)
    assert (scst.batch, scst.lr, scst.epochs) == (64, 1e-6, 30)
    for config, captions in (
        (pretraining, "dataset_cc.json"),
        (captioning, "dataset_coco.json"),
        (scst, "dataset_coco.json"),
    ):
        (asked,) = [r for r in regions_of(config).overrides.items() if r[0] == "captions"]
        assert asked[1]["annotations"]["train"] == f"vlp/{captions}"
    assert inputs(captioning)["captions"].overrides["format"] == "karpathy"


def test_the_papers_valm_and_its_matched_recipe(tmp_path):
    """Tokens of an update and in all, rates and schedule of the published run and of the cheaper one."""
    for profile, updates, tokens, lr in (
        ("paper", 500_000, 65_536, 5e-4),
        ("paper+matched", 40_600, 262_144, 2e-3),
    ):
        run = open_run(profile, root=tmp_path, settings={"data.root": str(tmp_path)})
        corpus, queries, config = (
            run.config(name) for name in ("blocks", "valm.queries", "valm.pretraining")
        )
        assert (config.updates, config.batch * corpus.block, config.lr) == (updates, tokens, lr)
        assert (config.warmup, config.schedule, config.optimiser) == (4000, "inverse_sqrt", "fairseq_adam")
        assert (config.clip, config.betas, config.weight_decay) == (2.0, (0.9, 0.98), 0.01)
        assert (config.size, config.fusion, config.variant, config.word_rate) == (
            "base",
            (-2,),
            "retrieved",
            0.0,
        )
        assert (queries.k, queries.probes, queries.mode) == (8, 32, "token_causal")
    assert pytest.approx(10.64e9, rel=1e-3) == 40_600 * 262_144

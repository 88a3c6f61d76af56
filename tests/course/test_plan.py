"""`vlpnb plan`: whole, checked against what runs measured, and with words for what is unknown."""

import json
import math
from dataclasses import replace

import pytest
import torch
import yaml

from vlpnb.course import open_run, plan
from vlpnb.course.cli import main
from vlpnb.course.pipeline import STAGES
from vlpnb.course.plan import Machine, make_plan, needed, sizes, step_of
from vlpnb.course.plan_table import amount, hours, short, whole
from vlpnb.errors import UserError
from vlpnb.stage.profiles import profile_names
from vlpnb.train.counting import Cost, count

# Seconds that finished runs of the laptop profile noted in their manifests, on two quiet cores; of one variant each …
MEASURED = {
    "vision": 60.5,
    "features": 35.3,
    "vokenization.matching": 21.2,
    "vokenization.vokens": 48.4,
    "vokenization.pretraining": 28.0,
    "vokenization.glue": 35.1,
    "lxmert.pretraining": 81.5,
    "vlp.pretraining": 117.8,
    "cclm.pretraining": 70.8,
    "cclm.xvnli": 5.8,
}
# … and what the benchmarks measured on the machine that they ran on, which `benchmarks/results` need not be of.
RAN_ON = {"flops": 231.5e9, "exact": 231.5e9, "bandwidth": 24.64e9, "call": 13.14e-6}


@pytest.fixture(scope="module")
def laptop(tmp_path_factory):
    return open_run("laptop", root=tmp_path_factory.mktemp("plan"))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """VaLM's part at smoke, counted for eight GPUs."""
    run = open_run("smoke", root=tmp_path_factory.mktemp("plan"))
    on = plan.machine("H100", gpus=8)
    return make_plan(run, ["valm"], sizes("smoke"), on), on


def fails(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.mark.slow
def test_hours_of_the_laptop_are_within_a_factor_of_one_and_a_half_of_measured_ones(laptop):
    on, data = replace(plan.machine(), **RAN_ON), sizes("laptop")
    found = {}
    for name in MEASURED:
        step = step_of(laptop, name, laptop.config(name), data)
        found[name] = on.seconds(count(step)) * step.updates
    ratios = {name: found[name] / seconds for name, seconds in MEASURED.items()}
    assert all(1 / 1.5 < ratio < 1.5 for ratio in ratios.values()), ratios
    assert sum(found.values()) == pytest.approx(sum(MEASURED.values()), rel=0.25)


@pytest.mark.parametrize("profile", profile_names())
def test_every_stage_of_every_profile_has_a_step_or_a_reason(profile, tmp_path):
    run, data = open_run(profile, root=tmp_path), sizes(profile)
    reasons = yaml.safe_load((plan.HERE / "plan.yaml").read_text(encoding="utf-8"))["else"]
    unknown = []
    for _, name, config in needed(run, plan.SYSTEMS):
        step = step_of(run, name, config, data, reasons)
        if isinstance(step, str):
            unknown += [name] if step.startswith("nothing is known") else []
            continue
        assert step.updates >= 0
        assert step.rows >= 1
    assert not unknown
    assert {stage.name for stage in STAGES} <= {*plan.STEPS, *reasons}
    assert not {*plan.STEPS} & {*reasons}


def test_sizes_name_stages_that_there_are():
    known = yaml.safe_load((plan.HERE / "plan.yaml").read_text(encoding="utf-8"))
    names = {stage.name for stage in STAGES}
    additions = known.pop("additions")
    assert known.pop("else").keys() <= names
    for stages in (*known.values(), *additions.values()):
        assert stages.keys() <= plan.STEPS.keys() & names


def test_sizes_that_a_step_does_not_take_are_named(laptop):
    data = sizes("laptop")
    wrong = {**data["valm.pretraining"], "lenght": 3}
    with pytest.raises(
        UserError, match=r"valm.pretraining: lenght missing or unknown; expected words, length"
    ):
        step_of(laptop, "valm.pretraining", laptop.config("valm.pretraining"), {"valm.pretraining": wrong})


def test_additions_change_what_they_have_other_data_for(tmp_path):
    small, large = sizes("paper"), sizes("paper+wikipedia+roberta+base")
    name = "vokenization.pretraining"
    assert large[name]["examples"] > 20 * small[name]["examples"]
    assert large[name]["words"] == 50265
    assert large["lxmert.vqa"] == small["lxmert.vqa"]
    with pytest.raises(UserError, match=r"profile papre: .* did you mean 'paper'.* --like"):
        sizes("papre")
    assert sizes("mine", like="paper") == small


def test_parameters_are_those_of_the_papers(tmp_path):
    run, data = open_run("paper", root=tmp_path), sizes("paper")
    from vlpnb.train.counting import unmade

    found = {}
    for name in ("lxmert.pretraining", "vlp.pretraining", "valm.pretraining"):
        step = step_of(run, name, run.config(name), data)
        with unmade():
            found[name] = sum(p.numel() for p in step.make().parameters())
    assert found["valm.pretraining"] == 123_004_416 + 3_072
    assert found["vlp.pretraining"] == 115_939_396
    assert 200e6 < found["lxmert.pretraining"] < 240e6


def test_a_machine_is_a_card_or_numbers_or_two_measured_cores():
    card = plan.machine("h100", gpus=4)
    assert (card.name, card.devices, card.memory, card.gpu) == ("H100", 4, 80e9, True)
    assert card.flops == pytest.approx(989e12 * plan.STATED)
    assert card.exact == pytest.approx(67e12 * 2 * plan.STATED)
    own = plan.machine(gpus=2, memory=80, rate=400, utilisation=0.5)
    assert (own.flops, own.exact) == (200e12, 25e12)
    assert plan.machine(gpus=2, memory=80, rate=400, float32=40, utilisation=0.5).exact == 40e12
    assert "50% (stated)" in own.said
    cores = plan.machine()
    assert not cores.gpu
    assert 0 < cores.call < 1e-4
    assert 1e10 < cores.flops < 1e13


def test_a_measured_utilisation_is_taken_before_the_stated_one(tmp_path, monkeypatch):
    row = {"name": "PRETRAINING step, utilisation", "ours": 494.5, "peer": 700.0}
    (tmp_path / "nvidia-h100-80gb-hbm3.json").write_text(json.dumps({"rows": [row]}))
    monkeypatch.setattr(plan, "RESULTS", tmp_path)
    found = plan.machine("H100")
    assert found.flops == pytest.approx(494.5e12)
    assert "50% (measured)" in found.said
    with pytest.raises(UserError, match="training step"):
        plan.machine()


def test_more_devices_share_what_can_be_shared(smoke):
    rows, on = smoke
    trained = next(row for row in rows if row.stage == "valm.pretraining")
    assert list(trained.hours) == [1, 2, 4, 8]
    assert trained.hours[8] == pytest.approx(trained.hours[1] / 8)
    assert trained.micro_batch == math.ceil(trained.rows / 8)
    alone = next(row for row in rows if row.stage == "towers")  # one process, whatever their number
    assert alone.hours[8] == alone.hours[1]
    assert 0 < trained.peak < plan.USABLE * on.memory
    assert trained.largest > trained.micro_batch


@pytest.mark.slow
def test_what_does_not_fit_says_so(tmp_path):
    run = open_run("smoke", root=tmp_path)
    small = Machine("a toy", 1, 1e6, True, 1e12, 1e11)
    rows = [row for row in make_plan(run, ["valm"], sizes("smoke"), small) if row.cost]
    assert any(row.largest == 0 for row in rows)
    assert "none fits" in whole(rows, small, "smoke", [])


def test_variants_of_one_cost_share_a_row_and_the_total_counts_each(smoke):
    rows, on = smoke
    pretraining = [row for row in rows if row.stage == "valm.pretraining"]
    assert sum(len(row.variants) for row in pretraining) == 2  # none; retrieved, which is hidden too
    table = whole(rows, on, "smoke", [])
    counted = [row for row in rows if row.cost]
    assert amount(sum(row.flops for row in counted)) in table
    assert "not counted: valm.results: collects" in table
    assert "No data set is to be fetched" in table
    assert short(rows, on, "smoke").count("\n") == 2


@pytest.mark.slow
def test_json_has_everything(smoke, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("VLPNB_DATA", str(tmp_path))
    with pytest.raises(SystemExit) as caught:
        main(["plan", "valm", "--profile", "smoke", "--card", "A100", "--gpus", "2", "--json"])
    assert caught.value.code in (0, None)
    found = json.loads(capsys.readouterr().out)
    assert found["machine"]["name"] == "A100"
    rows = {row["stage"]: row for row in found["stages"]}
    assert rows["valm.pretraining"]["cost"]["flops"] > 0
    assert rows["valm.pretraining"]["hours"].keys() == {"1", "2"}
    assert rows["valm.results"]["why"] == "collects"
    assert not (tmp_path / "runs").exists()  # nothing was made


def test_the_papers_data_sets_come_with_size_and_licence():
    found = {entry["name"]: entry for entry in plan.data_sets("paper", ["vokenization"])}
    assert found["coco2014"]["megabytes"] > 20_000
    assert all(entry["licence"] for entry in found.values())
    assert not plan.data_sets("laptop", ["vokenization"])
    assert {entry["name"] for entry in plan.data_sets("paper", ["lxmert"])} != found.keys()


def test_unknown_names_are_told_with_the_nearest(capsys):
    assert "did you mean 'H100'" in fails(["plan", "--card", "H10"], capsys)
    assert "did you mean 'lxmert'" in fails(["plan", "lxmrt"], capsys)
    assert "did you mean 'laptop'" in fails(["plan", "--profile", "labtop"], capsys)
    assert "--rate" in fails(["plan", "--gpus", "8", "--memory", "80"], capsys)


def test_cards_are_whole():
    for name, card in plan.cards().items():
        assert set(card) == {"rate", "float32", "memory", "file"}, name
        assert card["rate"] > 10
        assert 8 <= card["memory"] <= 300


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (12, "12"), (999, "999"), (1234, "1.23 k"), (5.6e10, "56 G"), (9.9999e8, "1 G")],
)
def test_amounts_have_three_digits_and_a_prefix(value, shown):
    assert amount(value) == shown


def test_times_are_told_in_the_unit_that_suits():
    assert hours(0.01) == "36.0 s"
    assert hours(3) == "3 h 00 min"
    assert hours(240) == "10.0 d"


def test_seconds_of_an_update_add_up_arithmetic_memory_and_calls():
    cost = Cost(parameters=1, trained=1, flops=2e9, moved=3e9, calls=1000, peak=0)
    assert Machine("x", 1, 1e9, False, 1e9, 1e9, 1e9, 1e-3).seconds(cost) == pytest.approx(2 + 3 + 1)
    assert Machine("x", 1, 1e9, True, 1e9, 1e8).seconds(cost) == 2
    assert Machine("x", 1, 1e9, True, 1e9, 1e8).seconds(cost, "float32") == 20


def test_every_step_of_smoke_can_be_done_for_real(tmp_path):
    run, data = open_run("smoke", root=tmp_path), sizes("smoke")
    done = set()
    for name in plan.STEPS:
        step = step_of(run, name, run.config(name), data)
        if isinstance(step, str):
            continue
        model, batch = step.make(), step.batch(min(step.rows, 4))
        if step.optimiser is None:
            with torch.no_grad():
                model.eval()(**batch)
        else:
            losses = model.train()(**batch)
            sum(losses.values()).backward()
            assert all(torch.isfinite(loss) for loss in losses.values()), name
            assert any(p.grad is not None for p in model.parameters()), name
        done.add(name)
    assert {f"{system}.pretraining" for system in plan.SYSTEMS} <= done

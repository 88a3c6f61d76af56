"""The explorer: views that keep a static fallback, a model's guesses, and the command that serves it."""

import importlib.util
import json
import os
import types
from pathlib import Path

import ipywidgets
import nbformat
import pytest
import torch

from vlpnb.course import cli, explorer, notebooks_folder, open_run
from vlpnb.errors import UserError
from vlpnb.lettering import without_formulas
from vlpnb.nn.transformer import TransformerConfig
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.vokenization.visual_lm import VisuallySupervisedLM


@pytest.fixture
def tokenizer(tmp_path):
    return train_wordpiece(["the banana is yellow .", "a car is red ."] * 20, 60, tmp_path / "tokenizer")


@pytest.fixture
def model(tokenizer):
    config = TransformerConfig(
        vocab_size=len(tokenizer), hidden=16, layers=1, heads=2, ffn=32, max_positions=12, dropout=0.0
    )
    return VisuallySupervisedLM(config).eval()


def test_a_view_answers_and_keeps_what_it_shows_without_a_kernel():
    def make(text):
        if not text:
            raise UserError("type a <sentence>")
        return f"<table><caption>{text}</caption></table>"

    box = ipywidgets.Text("one", description="Sentence")
    view = explorer.LiveResult([box], make)
    assert "<caption>one" in view.children[-1].value
    box.value = "two"
    data, _ = view._repr_mimebundle_()
    assert data["text/html"] == without_formulas("<table><caption>two</caption></table>")
    assert data["text/plain"] == "Sentence: two"
    box.value = ""
    assert "type a &lt;sentence&gt;" in view.children[-1].value
    assert 'role="alert"' in view.children[-1].value


def test_guesses_are_the_likeliest_words_at_each_mask(model, tokenizer):
    text = "the [MASK] is [MASK] ."
    found = explorer.guesses(model, tokenizer, text, k=4)
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad():
        chances = model.mlm.logits(model.encoder(ids).last, model.encoder.word_weight).softmax(-1)[0]
    for column, place in zip(found, (ids[0] == tokenizer.mask_token_id).nonzero().flatten(), strict=True):
        word, chance = column[0]
        assert tokenizer.convert_tokens_to_ids(word) == int(chances[place].argmax())
        assert chance == pytest.approx(chances[place].max().item())
        assert [c for _, c in column] == sorted((c for _, c in column), reverse=True)
    table = explorer.guess_table(found, text)
    assert table.count("<tr>") == 5
    with pytest.raises(UserError, match=r"write \[MASK\]"):
        explorer.guesses(model, tokenizer, "the banana is yellow .")
    with pytest.raises(UserError, match="more than the model reads"):
        explorer.guesses(model, tokenizer, "[MASK] " + "the banana " * 10)


def test_metrics_are_found_by_parts_of_their_names():
    metrics = {
        "vokenization.glue.mlm.rte": 0.5,
        "vokenization.glue.vokens.rte": 0.6,
        "vokenization.matching.test_r10": 0.8,
    }
    table = explorer.metric_table(metrics, "glue RTE")
    assert "2 of 3 metrics" in table
    assert "matching" not in table
    with pytest.raises(UserError, match=r"'x\.y'"):
        explorer.metric_table(metrics, "x.y")


def test_figures_come_with_their_alt_text(tmp_path):
    new = nbformat.v4
    output = new.new_output("display_data", data={"image/png": "AAAA", "text/plain": 'a "curve"'})
    book = new.new_notebook(cells=[new.new_code_cell("1", outputs=[output])])
    (tmp_path / "notebooks").mkdir()
    nbformat.write(book, tmp_path / "notebooks" / "10_a.ipynb")
    found = explorer.run_figures(tmp_path)
    assert found == {"10_a": [("AAAA", 'a "curve"')]}
    assert 'alt="a &quot;curve&quot;"' in explorer.figure_list(found["10_a"])


def test_an_unfinished_run_is_refused(tmp_path, capsys):
    run = open_run("smoke", "x", root=tmp_path)
    with pytest.raises(UserError, match=r"run x: no part is finished"):
        explorer.prepare(run, notebooks_folder(), tmp_path)
    assert not explorer.has_part(run, 3)
    assert "Part 3 is not finished in run x: `vlpnb run --part 3 --run x`" in capsys.readouterr().out


def test_a_run_of_one_part_is_explored_without_the_others(tmp_path, monkeypatch):
    run = open_run("smoke", "x", root=tmp_path)
    there = explorer.NEEDED[3]
    monkeypatch.setattr(type(run), "find", lambda self, name: object() if name in there else None)
    assert explorer.parts_of(run) == (3,)
    made = nbformat.read(explorer.prepare(run, notebooks_folder(), tmp_path), 4)
    sources = "\n".join(cell.source for cell in made.cells)
    assert "CaptionStepper(" in sources
    assert "metric_table(" in sources, "numbers and figures are of any run"
    for other in ("load_matcher", "RegionExplorer(", "RetrievalExplorer(", "ValmLook", "snapshot_folders"):
        assert other not in sources
    names = {word for cell in made.cells if cell.cell_type == "code" for word in cell.source.split()}
    assert "Part" not in names


def test_every_system_has_its_views_in_the_explorer():
    book = nbformat.read(notebooks_folder() / explorer.NOTEBOOK, 4)
    for part in explorer.NEEDED:
        own = [cell for cell in book.cells if f"part-{part}" in cell.metadata.get("tags", [])]
        assert {cell.cell_type for cell in own} == {"markdown", "code"}, f"part {part}"


def test_the_explorer_of_a_run_has_the_runs_parameters(tmp_path, monkeypatch):
    run = open_run("smoke", "x", "vokenization.matching.epochs=2", root=tmp_path)
    monkeypatch.setattr(type(run), "find", lambda self, name: object())
    path = explorer.prepare(run, notebooks_folder(), tmp_path)
    assert path.parent == tmp_path
    assert not run.folder.exists(), "a run that may only be read can be explored"
    injected = [
        c for c in nbformat.read(path, 4).cells if "injected-parameters" in c.metadata.get("tags", [])
    ]
    assert 'profile = "smoke"' in injected[0].source
    assert 'run_name = "x"' in injected[0].source
    assert "epochs" in injected[0].source


def test_what_belongs_to_the_lesson_only_stays_out_of_the_web_app(tmp_path, monkeypatch):
    run = open_run("smoke", "x", root=tmp_path)
    monkeypatch.setattr(type(run), "find", lambda self, name: object())
    made = nbformat.read(explorer.prepare(run, notebooks_folder(), tmp_path), 4)
    sources = "\n".join(cell.source for cell in made.cells)
    assert "At a glance" not in sources
    assert "by_hand" not in sources
    assert "LiveResult(" in sources
    assert made.metadata.kernelspec.name == "vlpnb", "the interpreter that serves, whatever `python3` is"


def test_the_template_and_the_kernel_are_where_jupyter_looks(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", "/elsewhere")
    run = open_run("smoke", "x", root=tmp_path)
    first, second = explorer.environment(run)["JUPYTER_PATH"].split(os.pathsep)
    assert second == "/elsewhere"
    assert (Path(first) / "voila" / "templates" / "explorer" / "index.html.j2").is_file()
    kernel = json.loads((Path(first) / "kernels" / "vlpnb" / "kernel.json").read_text())
    assert kernel["argv"][0] == "python", "Jupyter puts the server's own interpreter here"


def test_explore_says_how_to_get_what_it_lacks_and_runs_the_command(tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "voila" else find(name, *rest)
    )
    with pytest.raises(SystemExit) as caught:
        cli.main(["explore", "--run", "x"])
    assert caught.value.code == 2
    assert "pip install -e '.[explore]'" in capsys.readouterr().err
    monkeypatch.setattr(explorer, "need_voila", lambda: None)
    opened = types.SimpleNamespace(name="x", root=tmp_path / "data" / "runs")
    monkeypatch.setattr("vlpnb.course.report.reopen", lambda name, data: opened)
    monkeypatch.setattr(explorer, "prepare", lambda run, notebooks, folder: folder / "91_explorer.ipynb")
    called = []
    monkeypatch.setattr("vlpnb.course.serving.serve", lambda *arguments: called.append(arguments))
    with pytest.raises(SystemExit) as caught:
        cli.main(["explore", "--run", "x", "--port", "9001", "--no-browser", "--visitors", "25"])
    assert caught.value.code == 0
    ((notebook, address, port, browser, environment, visitors),) = called
    assert (address, port, browser) == ("127.0.0.1", 9001, False), "this machine only unless told otherwise"
    assert visitors == 25
    assert environment["VLPNB_DATA"] == str(tmp_path / "data")
    assert not notebook.parent.exists(), "nothing is left"

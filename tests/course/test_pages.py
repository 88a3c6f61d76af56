"""The data behind the site's pages: every symbol imports, every cell exists, every figure is the one on record."""

import re

import nbformat
import pytest

from vlpnb.course import notebooks_folder, pages
from vlpnb.errors import UserError

PATHS = {path.name[:2]: path for path in notebooks_folder().glob("[0-9]*.ipynb")}
TERMS = pages.read_glossary()
PAPERS = pages.read_papers()


def headings(number: str) -> set[str]:
    cells = nbformat.read(PATHS[number], as_version=4).cells
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    return {match.strip() for text in texts for match in re.findall(r"^#+ (.+)$", text, flags=re.M)}


def test_every_term_of_the_docstring_is_in_the_glossary():
    assert set(pages.docstring_terms()) <= {term.term for term in TERMS}
    assert len({term.anchor for term in TERMS}) == len(TERMS)


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.term)
def test_every_symbol_of_the_glossary_imports(term):
    assert len(term.definition) > 20
    assert term.notebook in PATHS
    assert term.symbols
    for code in pages.read_code(term.symbols):
        assert code.source
        assert code.file.startswith("vlpnb/")


def test_a_term_without_a_definition_and_one_with_two_are_refused(tmp_path):
    file = tmp_path / "glossary.yaml"
    file.write_text("new word: {notebook: '10', symbols: []}")
    with pytest.raises(UserError, match="'new word' is defined nowhere"):
        pages.read_glossary(file)
    file.write_text("voken: {definition: another, notebook: '10', symbols: []}")
    with pytest.raises(UserError, match="'voken' is defined twice"):
        pages.read_glossary(file)


def test_a_name_that_is_not_there_is_an_error():
    with pytest.raises(UserError, match=r"vlpnb\.nn\.losses\.paired_hing: no such name"):
        pages.resolve("vlpnb.nn.losses.paired_hing")


@pytest.mark.parametrize("name", PAPERS)
def test_a_papers_cells_exist_and_its_symbols_import(name):
    paper = PAPERS[name]
    for item in [*paper["equations"], *paper["tables"], *paper["claims"]]:
        assert item["heading"] in headings(item["notebook"]), item
    for item in paper["equations"]:
        assert pages.read_code(item["symbols"])


@pytest.mark.parametrize("name", PAPERS)
def test_a_papers_rows_are_whole(name):
    for table in PAPERS[name]["tables"]:
        for row in table["rows"]:
            assert len(row["cells"]) == len(table["columns"]), row["label"]
            for cell in row["cells"]:
                assert ("paper" in cell) == ("status" in cell)
                assert cell.get("status", "confirmed") in pages.STATUSES


def test_the_averages_of_vokenization_are_right():
    main = PAPERS["vokenization"]["tables"][0]
    confirmed = [c for row in main["rows"] for c in row["cells"] if c["status"] == "confirmed"]
    assert [cell["paper"] for cell in confirmed] == [89.3, 87.9, 83.2, 79.4]
    for row in main["rows"]:
        *values, average = (
            sum(map(float, str(cell["paper"]).split("/"))) / len(str(cell["paper"]).split("/"))
            for cell in row["cells"]
        )
        assert abs(sum(values) / len(values) - average) < 0.06, row["label"]


def test_the_reports_figures_are_the_papers():
    figures = pages.paper_figures()
    assert figures["vokenization.results.glue.mlm.qnli"] == (87.9, "BERT 12L/768H")
    assert figures["vokenization.results.glue.vokens.mnli"] == (82.6, "BERT 12L/768H + voken-cls, unverified")
    assert figures["vokenization.results.swag.vokens.accuracy"] == (
        70.6,
        "BERT 12L/768H + voken-cls, unverified",
    )
    assert figures["vokenization.results.glue.propagated.qqp"] == (
        88.1,
        "sentence retrieval, propagated to tokens, unverified",
    )
    # Of the base model: four GLUE tasks, SWAG and the average, with vokens and without; and four tasks of each of the
    # three coarser kinds of vokens.
    assert sum(name.startswith("vokenization.") for name in figures) == 12 + 12
    assert figures["lxmert.results.nlvr2.scratch.accuracy"] == (50.9, "no pre-training, from scratch")


def test_lxmerts_numbers_agree_where_two_of_its_tables_say_the_same():
    tables = {
        table["name"]: pages.paper_rows("lxmert", table["name"]) for table in PAPERS["lxmert"]["tables"][1:]
    }
    whole = [tables[name][row] for name, row in (
        ("BERT or LXMERT", "pre-trained from scratch"),
        ("Questions as a pre-training task", "P10 + QA10, plain fine-tuning"),
        ("Vision tasks of pre-training", "both"),
    )]  # fmt: skip
    assert whole[0] == whole[1] == whole[2]
    released = tables["The released code"]
    for task in ("VQA", "GQA", "NLVR2"):
        assert abs(released["local validation"][task].mean - whole[0][task].mean) < 0.25
        assert (
            abs(released["test-standard, Test-U"][task].mean - tables["Test sets"]["LXMERT"][task].mean)
            < 0.05
        )


def test_the_table_of_lxmerts_results_quotes_the_papers_page():
    from vlpnb.lxmert.reading_results import PAPER, TITLES

    figures = pages.paper_figures()
    for model, quoted in PAPER.items():
        for task, value in zip(TITLES, quoted, strict=True):
            assert figures[f"lxmert.results.{task}.{model}.accuracy"][0] == value, (model, task)


def test_lxmerts_parameters_are_those_of_the_formula():
    from vlpnb.lxmert.model import LxmertConfig, parameter_count

    parts = parameter_count(LxmertConfig())
    said = [int(row["parameters"].mean) for row in pages.paper_rows("lxmert", "Parameters").values()]
    backbone, whole = said.pop(6), said.pop()
    assert said == list(parts.values())
    assert backbone == sum(said[:6])
    assert whole == sum(said) == 228_051_752


def test_the_table_of_valms_results_quotes_the_papers_page():
    from vlpnb.valm.reading_results import PAPER

    figures = pages.paper_figures()
    quoted = {
        f"valm.results.{task}.{row}.raw": value for task, rows in PAPER.items() for row, value in rows.items()
    }
    assert {name: round(100 * figures[name][0], 1) for name in quoted} == quoted, "ours are shares"


def test_valms_parameters_are_those_of_the_formula():
    from vlpnb.valm.config import ValmConfig, parameter_count

    parts = parameter_count(ValmConfig())
    said = [int(row["parameters"].mean) for row in pages.paper_rows("valm", "Parameters").values()]
    assert said[:2] == [sum(parts.values()) - parts["pictures"], parts["pictures"]]
    assert said[2] == sum(said[:2]) + 2 * 768**2, "two matrices that the released file holds and never uses"


def test_cclms_parameters_are_those_of_the_formula():
    from vlpnb.cclm.config import CclmConfig, parameter_count
    from vlpnb.vision.swin import SwinConfig

    parts = parameter_count(CclmConfig(vision="swin", swin=SwinConfig()))
    said = {name: int(row["parameters"].mean) for name, row in pages.paper_rows("cclm", "Parameters").items()}
    assert said.pop("in all") == sum(parts.values())
    assert said == parts


def test_what_cclms_results_quote_stands_on_the_papers_page():
    from vlpnb.cclm.reading_results import OTHERS

    quoted = [float(number) for number in re.findall(r"\b(?:en|de|fr|cs) (\d+\.\d)", OTHERS["Multi30K"])]
    row = pages.paper_rows("cclm", "Fine-tuned on English alone")["CCLM 3M"]
    assert quoted == [row[f"Multi30K {language}"].mean for language in ("en", "de", "fr", "cs")]


def test_the_papers_rows_are_read_as_numbers():
    rows = pages.paper_rows("vokenization", "Main results")
    assert list(rows)[:2] == ["BERT 12L/768H", "BERT 12L/768H + voken-cls"]
    assert len(rows) == 8
    first = rows["BERT 12L/768H"]
    assert list(first) == PAPERS["vokenization"]["tables"][0]["columns"]
    assert first["MNLI"] == pages.Figure((79.4,), "confirmed")
    assert first["SQuAD 1.1"] == pages.Figure((77.0, 85.3), "unverified")
    assert first["SQuAD 1.1"].mean == pytest.approx(81.15)
    for paper, table, message in (
        ("vokenisation", "Main results", "did you mean 'vokenization'"),
        ("vokenization", "Main result", "did you mean 'Main results'"),
        ("vokenization", "Corpora", r"Corpora, COCO, tokens: found '7.0 M', expected a number"),
    ):
        with pytest.raises(UserError, match=message):
            pages.paper_rows(paper, table)


def test_our_numbers_come_with_their_spread_or_not_at_all():
    cell = {"metric": "a.b", "scale": 100, "unit": "%"}
    assert pages.ours(cell, {}) == pages.NOT_RUN
    assert pages.ours(cell, {"a.b": 0.12345}) == "12.3 %"
    assert pages.ours(cell, {"a.b": 0.5, "a.b_std": 0.012}) == "50.0 ± 1.2 %"
    assert pages.ours({}, {"a.b": 1.0}) == pages.NOT_RUN
    seeds = {"a.seed1.b": 0.5, "a.seed23.b": 0.7, "a.mlm.seed1.b": 9.0}
    assert pages.ours({"metric": "a.seed*.b"}, seeds) == "0.6 ± 0.141"


def test_every_metric_of_a_page_begins_with_a_stage():
    from vlpnb.course.pipeline import STAGES

    names = {stage.name for stage in STAGES}
    said = re.findall(r"metric: ([\w.*]+)", "".join(path.read_text() for path in pages.PAPERS.glob("*.yaml")))
    assert len(said) > 30
    for metric in said:
        assert any(metric.startswith(f"{name}.") for name in names), metric


def test_the_map_puts_a_notebook_below_what_it_needs():
    needs = [frozenset(), frozenset({0}), frozenset({0}), frozenset({1, 2})]
    nodes = pages.draw_map(["0 · a", "1 · b", "2 · c", "3 · d"], ["a", "b", "c", "d"], needs)
    assert nodes[0].y < nodes[1].y == nodes[2].y < nodes[3].y
    assert nodes[1].x < nodes[2].x
    assert [node.number for node in nodes[3].needs] == ["1", "2"]
    assert [node.title for node in nodes[0].leads] == ["b", "c"]


def along(path: str) -> list[tuple[float, float]]:
    """Points of an SVG path of M, C and V."""
    points: list[tuple[float, float]] = []
    for command, numbers in re.findall(r"([MCV])([^MCV]*)", path):
        values = [float(number) for number in numbers.split()]
        if command == "M":
            points.append((values[0], values[1]))
        elif command == "V":
            x, y = points[-1]
            points += [(x, y + t / 20 * (values[0] - y)) for t in range(21)]
        else:
            corners = [points[-1], *zip(values[::2], values[1::2], strict=True)]
            for t in (step / 20 for step in range(21)):
                shares = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
                points.append(
                    tuple(
                        sum(s * corner[k] for s, corner in zip(shares, corners, strict=True)) for k in (0, 1)
                    )
                )
    return points


@pytest.mark.parametrize(
    "needs",
    [
        # the course: 12 leads to 13 and 14, past the row of 11
        [(), (), (1,), (2,), (3,), (2,), (4, 5), (4, 5), (6,), (8,), (9,)],
        [(), (0,), (1,), (2,), (0, 3), (1, 3)],
        [(), (), (), (0, 1, 2), (0, 3), (1, 3), (2, 4, 5)],
    ],
)
def test_no_arrow_of_the_map_passes_behind_a_box(needs):
    names = [f"{i} · n" for i in range(len(needs))]
    nodes = pages.draw_map(names, names, [frozenset(one) for one in needs])
    half = pages.BOX[1] / 2
    for node in nodes:
        assert node.width / 2 <= node.x <= pages.MAP_WIDTH - node.width / 2
        assert len(node.arrows) == len(node.needs)
        for other, arrow in zip(node.needs, node.arrows, strict=True):
            points = along(arrow)
            assert points[0] == pytest.approx((other.x, other.y + half), abs=0.1)
            assert points[-1] == pytest.approx((node.x, node.y - half - 2), abs=0.1)
            for x, y in points:
                hidden = [b for b in nodes if abs(x - b.x) < b.width / 2 and abs(y - b.y) < half - 0.5]
                assert hidden == [], f"{other.number} to {node.number}"
    for i, node in enumerate(nodes):
        for other in nodes[:i]:
            assert other.y != node.y or abs(other.x - node.x) > node.width


def test_a_title_on_the_map_takes_two_lines_at_most_and_none_leaves_its_box():
    title = "Retrieval for language modelling and everything that comes with it in practice"
    [node] = pages.draw_map([f"40 · {title}"], ["x.html"], [frozenset()])
    assert len(node.lines) == 2
    assert node.lines[0].startswith("40 · Retrieval")
    assert node.lines[1].endswith("…")
    assert max(map(len, node.lines)) * pages.CHARACTER < node.width


def test_one_seed_has_no_spread():
    cell = {"metric": "a.b", "scale": 100, "unit": "%"}
    assert pages.ours(cell, {"a.b": 0.5, "a.b_std": float("nan")}) == "50.0 %"
    assert pages.ours(cell, {"a.b": 0.5, "a.b_std": 0.1}) == "50.0 ± 10.0 %"

"""What is left of a fallback where HTML is sanitised, as GitHub does: the words, the pictures' alt text, the scores."""

from html.parser import HTMLParser

import numpy as np
import pytest

from tests.browser import toys
from vlpnb.course import explorer

KEPT = {"src", "alt", "width", "height", "colspan", "rowspan", "scope", "open"}
DROPPED = {"style", "script", "svg"}  # with all that is in them
ALLOWED = {"div", "p", "br", "img", "table", "caption", "tr", "th", "td", "details", "summary"}


class Sanitised(HTMLParser):
    """The rows of a page's tables and the text elsewhere, after sanitising; a picture is its alt text in brackets."""

    def __init__(self, page: str):
        super().__init__()
        self.rows: list[list[str]] = []
        self.text = ""
        self._inside, self._cell = 0, False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag in DROPPED:
            self._inside += 1
        if self._inside:
            return
        assert tag in ALLOWED, f"<{tag}> does not survive everywhere"
        kept = {name: value for name, value in attributes if name in KEPT}
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True
        elif tag == "br":
            self._add(" ")
        elif tag == "img":
            assert kept["src"].startswith("data:image/"), "a picture is in the page"
            assert kept["alt"].strip()
            self._add(f"[{kept['alt']}]")

    def handle_endtag(self, tag):
        self._inside -= tag in DROPPED
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data):
        if not self._inside:
            self._add(data)

    def _add(self, text):
        self.text += text
        if self._cell:
            self.rows[-1][-1] += text


def test_what_a_sanitiser_drops_is_not_counted():
    page = "<style>a</style><table><tr><td class='x'><svg><text>b</text></svg>c</td></tr></table><script>d</script>"
    assert Sanitised(page).text == "c"
    assert Sanitised(page).rows == [["c"]]


@pytest.mark.parametrize("name", ["in context", "alone"])
def test_vokens_keep_every_token_its_pictures_and_scores(name):
    view = toys.vokens()
    left = Sanitised(view.to_html())
    lists = {"in context": [token["vokens"] for token in view.tokens], "alone": view.compared[0]["vokens"]}
    heads, rows = left.rows[0], {row[0]: row for row in left.rows[1:]}
    first = heads.index(f"{name}: voken 1")
    assert view.title in left.text
    for token, vokens in zip(view.tokens, lists[name], strict=True):
        if token["vokens"]:
            told = [f"[{toys.NAMES[int(v['id'])]}] {v['score']:.2f}" for v in vokens[:3]]
            assert rows[token["text"]][first : first + 3] == told


def test_a_retrieval_keeps_its_sentence_tokens_pictures_and_scores():
    view = toys.retrieval()
    left = Sanitised(view.to_html())
    assert toys.SENTENCE in left.text
    tokens, ids, scores = toys.retrieve(toys.SENTENCE)
    assert [row[0] for row in left.rows[1:]] == tokens
    for row, best, values in zip(left.rows[1:], ids, scores, strict=True):
        assert row[1:] == [f"[{toys.NAMES[v]}] {s:.2f}" for v, s in zip(best[:3], values, strict=False)]


def test_attention_keeps_every_token_and_what_it_looks_at():
    view = toys.attention()
    left = Sanitised(view.to_html())
    assert [row[0] for row in left.rows[1:]] == view.tokens
    for row, weights in zip(left.rows[1:], view.maps[0, 0], strict=True):
        strongest = np.argsort(-weights, kind="stable")[:3]
        assert row[1:] == [f"{view.tokens[j]} {weights[j]:.2f}" for j in strongest]
    assert "3 layers with 4 heads" in left.text


def test_regions_keep_what_every_word_and_every_region_looks_at():
    view = toys.regions()
    left = Sanitised(view.to_html())
    for direction, names in (("words", toys.WORDS), ("regions", view.labels)):
        found = {row[0]: row[1:] for row in left.rows}
        for name, best in view.strongest(direction):
            assert name in names
            assert found[name] == [f"{other} {weight:.2f}" for other, weight in best]
    assert f"[{view.picture['alt']}]" in left.text
    assert "layer 2 of 2, mean of the heads" in left.text


def test_a_search_keeps_its_captions_and_every_step():
    view = toys.stepper()
    left = Sanitised(view.to_html())
    for label, trace in view.traces.items():
        assert label in left.text
        for one in trace.texts:
            assert [f"{one.score:.2f}", view.text(trace, *one.place)] in [row[1:] for row in left.rows]
        for number, step in enumerate(trace.steps, 1):
            assert f"step {number}" in left.text
            for k, word in enumerate(step.words):
                assert [str(k + 1), toys.PIECES[word], f"{step.totals[k]:.2f}"] in [
                    row[:3] for row in left.rows
                ]
    assert "[SEP] -" in left.text
    assert "(too short to end)" in left.text
    assert "(repeats itself)" in left.text
    assert f"[{view.picture['alt']}]" in left.text


def test_the_map_keeps_every_token_its_nearest_pictures_and_cosines():
    view = toys.embedding()
    left = Sanitised(view.to_html())
    rows = {row[0]: row[1:] for row in left.rows}
    assert set(rows) == set(toys.COLOURS)
    for point, near in zip(view.points, view.neighbours, strict=True):
        if point["kind"] == "token":
            pictures = [(view.points[i]["label"], c) for i, c in near if view.points[i]["kind"] == "picture"]
            assert rows[point["label"]] == [f"[{label}] {cosine:.2f}" for label, cosine in pictures]
    assert "of the variance" in left.text


def test_the_explorers_tables_and_figures_keep_their_content():
    table = Sanitised(explorer.guess_table([[("red", 0.25), ("blue", 0.125)]], "it is [MASK]"))
    assert table.rows == [["guess", "[MASK] 1"], ["1", "red (25.0%)"], ["2", "blue (12.5%)"]]
    assert "it is [MASK]" in table.text
    assert Sanitised(explorer.metric_table({"a.b": 0.5}, "a")).rows == [["metric", "value"], ["a.b", "0.5"]]
    assert Sanitised(explorer.figure_list([("AAAA", "a curve")])).text == "[a curve]"

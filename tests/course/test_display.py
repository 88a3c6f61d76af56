"""What a run shows of itself: heartbeats in a plain log, one live line a notebook in a terminal."""

import io
import time

import pytest

from vlpnb.course.display import Lines, LiveStatus, PlainLog, Progress, is_live


@pytest.fixture
def notebooks():
    now = time.monotonic()
    return [
        Progress("10_a", cells=8, cell=8, state="done", seconds=4.0),
        Progress("11_b", cells=20, cell=5, state="running", started=now - 90, memory=2_100_000_000),
        Progress("12_c", cells=9),
    ]


def test_a_silent_notebook_is_heard_of_in_the_plain_log(notebooks):
    lines = []
    log = PlainLog(lines.append, quiet=30)
    log.begin(notebooks)
    notebooks[1].heard = time.monotonic() - 31
    log.tick()
    log.tick()
    assert lines == ["11_b  still running, 1 min 30 s, cell 5 of 20, 2.1 GB"]
    notebooks[1].state, notebooks[1].seconds = "failed", 91.0
    log.finished(notebooks[1])
    assert lines[-1] == "11_b  FAILED in 1 min 31 s"


def test_the_live_table_has_one_line_a_notebook(notebooks):
    from rich.console import Console

    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    live = LiveStatus(console)
    notebooks[1].last = "[matching] 120 of 400 (30%)"
    live.begin(notebooks)
    live.say("a problem [in brackets]")
    live.end()
    text = console.file.getvalue()
    rows = [line for line in text.replace("\r", "\n").split("\n") if line.strip()]
    (running,) = {line.strip() for line in rows if "11_b" in line}
    assert "▶  11_b" in running
    assert "███░░░░░░░░░ 5/20" in running
    assert "[matching] 120 of 400 (30%)" in running
    assert any("✓  10_a" in line for line in rows)
    assert any("a problem [in brackets]" in line for line in rows)


def test_lines_come_whole_and_progress_bars_leave_their_last_state(notebooks, capsys):
    log = PlainLog(lambda line: None)
    log.begin(notebooks[1:])
    stream = Lines(notebooks[1], log, without="the end")
    stream.write("one ")
    stream.write("line\n10%\r50%\r100%\r\nthe end\nrest")
    stream.close()
    assert capsys.readouterr().out == "    one line\n    100%\n    rest\n"
    assert notebooks[1].last == "rest"


def test_a_low_terminal_shows_the_notebooks_around_the_one_that_runs_and_all_at_the_end():
    from rich.console import Console

    notebooks = [Progress(f"{number}_n", state="done") for number in range(10, 20)]
    notebooks[5].state = "running"
    for later in notebooks[6:]:
        later.state = "waiting"
    console = Console(file=io.StringIO(), force_terminal=True, width=60, height=5, color_system=None)
    live = LiveStatus(console)
    live.begin(notebooks)
    live.tick()
    drawn = console.file.getvalue()
    assert [item.name for item in notebooks if item.name in drawn] == ["13_n", "14_n", "15_n", "16_n"]
    live.end()
    assert all(item.name in console.file.getvalue() for item in notebooks)


@pytest.mark.parametrize(("kind", "live"), [("xterm", True), ("dumb", False)])
def test_a_terminal_that_cannot_draw_gets_a_plain_log(monkeypatch, kind, live):
    monkeypatch.setenv("TERM", kind)
    stream = type("Terminal", (), {"isatty": lambda self: True})()
    assert is_live(stream) is live
    assert not is_live(type("File", (), {"isatty": lambda self: False})())

"""`vlpnb run` in a terminal: one line a notebook, drawn in place; Ctrl-C and SIGTERM leave nothing behind."""

import os
import re
import signal
import sys
import termios
import time
from pathlib import Path

import nbformat
import pytest

from tests.course.screen import Screen, Terminal
from vlpnb.course.cli import Exit

PARAMETERS = 'profile: str = "laptop"\nrun_name: str = "laptop"\nsettings: str = ""\ndevices: int = 1'
# What the kernel itself logs goes past the notebook, to the standard error that it was born with.
NOISY = "from ipykernel.kernelapp import IPKernelApp\nIPKernelApp.instance().log.error('noise of the kernel')"
COUNTING = "import time\nfor i in range(4):\n    print(f'step {i}', flush=True)\n    time.sleep(0.4)"
LONG = """
import os, signal, subprocess, time
signal.signal(signal.SIGINT, signal.{handler})
child = subprocess.Popen(["sleep", "300"], start_new_session=True)
print("processes", os.getpid(), child.pid, flush=True)
while True:
    time.sleep(0.1)
"""
CTRL_C = b"\x03"

pytestmark = [
    pytest.mark.notebook,
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="needs ptys"),
]


@pytest.fixture
def start(tmp_path):
    """Start `vlpnb run` on toy notebooks in a terminal of so many rows."""
    terminals = []

    def start(rows: int = 24, *flags: str, **notebooks: str) -> Terminal:
        paths = []
        for name, code in notebooks.items():
            new = nbformat.v4
            first = new.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
            paths.append(tmp_path / f"{name.lstrip('n')}.ipynb")
            nbformat.write(new.new_notebook(cells=[first, new.new_code_cell(code)]), paths[-1])
        command = [sys.executable, "-m", "vlpnb", "run", *map(str, paths), "--profile", "smoke"]
        terminal = Terminal(
            [*command, "--run", "t", "--no-site", *flags], {"VLPNB_DATA": str(tmp_path)}, rows
        )
        terminals.append(terminal)
        return terminal

    yield start
    for terminal in terminals:
        terminal.close()


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int], seconds: float = 5.0) -> bool:
    """Whether all processes have ended, or do within so many seconds."""
    end = time.monotonic() + seconds
    while any(map(lives, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(lives, pids))


def put_away(terminal: Terminal) -> None:
    """Nothing is left half-drawn, and the terminal is as it was."""
    screen = terminal.screen
    assert screen.cursor, "the cursor is hidden"
    assert screen.column == 0
    assert screen.row == len(screen.lines) - 1, "the cursor is not below all that was drawn"
    assert screen.lines[-1] == ""
    assert termios.tcgetattr(terminal.slave) == terminal.before


def rows_of(text: str, name: str) -> list[str]:
    return [line for line in text.split("\n") if name in line]


def test_one_line_a_notebook_drawn_in_place(start):
    terminal = start(24, n10_first=NOISY, n11_second=COUNTING, n12_third="1 + 1")
    assert terminal.end() == 0
    put_away(terminal)
    names = ("10_first", "11_second", "12_third")
    for name in names:  # in the window as in what was scrolled out of it
        (row,) = rows_of("\n".join(terminal.screen.lines), name)
        assert re.fullmatch(rf"✓  {name} +\d+\.\d s\s*", row), row
    drawn = [text for text in terminal.moments if "10_first" in text]
    for text in drawn:
        assert [len(rows_of(text, name)) for name in names] == [1, 1, 1], text
    bars = {bar for text in drawn for bar in re.findall(r"▶  11_second .*? ([█░]+) (\d)/(\d) +(.*)", text)}
    assert len({said for *_, said in bars if said.startswith("step")}) >= 2, "it is drawn again as it goes on"
    assert all(len(bar) == 12 and int(cell) <= int(cells) for bar, cell, cells, _ in bars), bars
    states = [tuple(row.strip()[0] for name in names for row in rows_of(text, name)) for text in drawn]
    order = [("·", "·", "·"), ("▶", "·", "·"), ("✓", "▶", "·"), ("✓", "✓", "▶"), ("✓", "✓", "✓")]
    assert [state for state in dict.fromkeys(states) if state in order[1:]] == order[1:]
    assert "noise" not in "\n".join(terminal.moments)


def test_ctrl_c_ends_all_and_says_how_to_go_on(start):
    terminal = start(24, n10_long=LONG.format(handler="default_int_handler"), n11_never="1")
    terminal.until(terminal.shows(r"processes \d+ \d+"))
    pids = [int(pid) for pid in re.findall(r"processes (\d+) (\d+)", terminal.screen.text())[0]]
    assert all(map(lives, pids))
    terminal.press(CTRL_C)
    assert terminal.end(60) == Exit.INTERRUPTED
    put_away(terminal)
    assert gone(pids)
    text = terminal.screen.text()
    assert re.search(r"■  10_long +\d.* s .*stopped\n·  11_never\n", text), text
    drawn = [line for line in terminal.screen.lines if re.match("[·▶■] ", line)]
    assert len(drawn) == 2, "a row of an earlier moment is left"
    assert "10_long.ipynb: stopped (interrupted)." in text
    assert text.count("Run the same command again to continue") >= 1
    assert text.rstrip().endswith("Interrupted. Run the same command again to continue.")
    assert "Traceback" not in text


def test_a_terminated_kernel_that_does_not_listen_is_killed_and_ctrl_c_need_not_wait(start):
    terminal = start(24, n10_long=LONG.format(handler="SIG_IGN"))
    terminal.until(terminal.shows(r"processes \d+ \d+"))
    pids = [int(pid) for pid in re.findall(r"processes (\d+) (\d+)", terminal.screen.text())[0]]
    os.kill(terminal.process.pid, signal.SIGTERM)
    pressed = time.monotonic()
    while time.monotonic() < pressed + 1:
        terminal.until(lambda: True)
        time.sleep(0.1)
    assert terminal.process.poll() is None, "the kernel still has its time to end"
    terminal.press(CTRL_C)
    assert terminal.end(8) == Exit.TERMINATED
    put_away(terminal)
    assert gone(pids)
    text = terminal.screen.text()
    assert re.search(r"■  10_long +\d.* s .*stopped\n", text), text
    assert text.rstrip().endswith("Terminated. Run the same command again to continue.")


def test_the_model_of_a_terminal_knows_what_rich_writes():
    screen = Screen(3, 10)
    screen.feed("\x1b[?25lone\r\ntwo")
    screen.feed("\r\x1b[2K\x1b[1A\x1b[")
    screen.feed("2K\x1b[32mONE\x1b[0m\r\n")
    assert (screen.text(), screen.cursor) == ("ONE\n", False)
    screen.feed("0123456789ab\r\nend\r\n\x1b[?25h")
    assert screen.lines == ["ONE", "0123456789", "ab", "end", ""]
    assert (screen.text(), screen.cursor) == ("ab\nend\n", True)
    with pytest.raises(AssertionError, match="unknown control sequence 2J"):
        screen.feed("\x1b[2J")

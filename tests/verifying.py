"""What the tests of `vlpnb verify` do with a recorded folder: change one thing in it, and say what no longer holds."""

import ast
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from vlpnb.course.verify import Verdict, lines, verify
from vlpnb.data.agreement import compare
from vlpnb.data.recorded import RecordedFolder


def change_number(folder: Path, file: str, name: str, at: int = -1) -> None:
    """One number of a tensor: by a thousandth, or of whole numbers by one."""
    path = folder / f"{file}.safetensors"
    tensors = load_file(path)
    changed = tensors[name].view(-1)
    changed[at] += 1e-3 if changed.is_floating_point() else 1
    save_file(tensors, path)


def change_weight(folder: Path, file: str, name: str) -> None:
    """The first number of a bias, by as much as every output notices."""
    path = folder / f"{file}.safetensors"
    tensors = load_file(path)
    tensors[name][0] += 0.05
    save_file(tensors, path)


def change_field(folder: Path, file: str, where: Sequence[str | int]) -> None:
    """One number of a JSON file, by one."""
    path = folder / f"{file}.json"
    about = inner = json.loads(path.read_text())
    for step in where[:-1]:
        inner = inner[step]
    inner[where[-1]] += 1
    path.write_text(json.dumps(about))


def failing(system: str, folder: Path) -> list[Verdict]:
    """The files that do not hold."""
    return [verdict for verdict in verify(system, folder).verdicts if not verdict.holds]


def failing_files(system: str, folder: Path) -> list[str]:
    """Their names."""
    return [verdict.file for verdict in failing(system, folder)]


def beyond(verdict: Verdict) -> list[str]:
    """The entries of a file that do not agree."""
    return [one.case.name for one in verdict.found if one.beyond]


def assert_holds(system: str, folder: Path, least: int = 0) -> None:
    """All of a folder holds, and more than so many numbers were compared."""
    result = verify(system, folder)
    assert result.holds, "\n".join(lines(result))
    assert sum(verdict.values for verdict in result.verdicts) > least


def assert_unread_entry_is_told(system: str, folder: Path, file: str) -> None:
    """An entry that no check knows is named, and nothing else."""
    path = folder / f"{file}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"accuracy": 0.5}))
    unread = {verdict.file: verdict.unread for verdict in verify(system, folder).verdicts if verdict.unread}
    assert unread == {path.name: ["accuracy"]}


def assert_agrees(check: Callable, folder: Path, more_than: int = 5) -> None:
    """One check alone finds all of its entries as they were recorded, and more than so many."""
    found = [compare(case) for case in check(RecordedFolder(folder))]
    assert len(found) > more_than
    assert [case.first for case in found if case.beyond] == []


def assert_small(folder: Path) -> None:
    """No file of a folder is larger than the repository takes."""
    assert all(path.stat().st_size <= 250_000 for path in folder.iterdir())


def assert_independent(scripts: Iterable[Path | str]) -> None:
    """No script imports the package, whose numbers it is to be held against."""
    for script in scripts:
        for node in ast.walk(ast.parse(Path(script).read_text())):
            names = [alias.name for alias in getattr(node, "names", [])] + [getattr(node, "module", "") or ""]
            assert not any(name.split(".")[0] == "vlpnb" for name in names), script

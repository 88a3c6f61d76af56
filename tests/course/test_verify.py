"""`vlpnb verify`: nothing recorded is passed over, whatever breaks is told, and the codes are 0, 1 and 2."""

import json
import sys
import types
from importlib import import_module

import pytest
import torch
from safetensors.torch import save_file

from vlpnb.course import verify
from vlpnb.course.cli import main
from vlpnb.data.agreement import Tolerance
from vlpnb.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of a toy system, whose only check doubles and counts."""

    def doubles(recorded):
        tensors, about = recorded.tensors("doubles.safetensors"), recorded.json("about.json")
        yield tensors.case("twice", 2 * tensors["once"], Tolerance(1e-6))
        for text in about["texts"]:
            yield text.case("letters", len(text["text"]))

    save_file(
        {"once": torch.arange(6.0).view(2, 3), "twice": 2 * torch.arange(6.0).view(2, 3)},
        tmp_path / "doubles.safetensors",
    )
    texts = [{"text": "ab", "letters": 2}, {"text": "abc", "letters": 3, "note": "for people"}]
    (tmp_path / "about.json").write_text(json.dumps({"texts": texts, "made_note": "by hand"}))
    (tmp_path / "README.md").write_text("for people")
    (tmp_path / ".hidden").touch()
    monkeypatch.setattr(verify, "SYSTEMS", ("toy",))
    monkeypatch.setitem(
        sys.modules, "vlpnb.toy.original.verify", module := types.SimpleNamespace(CHECKS=(doubles,))
    )
    return types.SimpleNamespace(path=tmp_path, module=module, tensors=tmp_path / "doubles.safetensors")


def said(folder, each=False):
    result = verify.verify("toy", folder.path)
    return result.holds, "\n".join(verify.lines(result, each))


def rewrite(folder, **fields):
    about = json.loads((folder.path / "about.json").read_text())
    (folder.path / "about.json").write_text(json.dumps(about | fields))


def test_a_folder_that_holds_is_a_line_a_file(folder):
    holds, text = said(folder)
    assert holds
    assert text.splitlines() == [
        "✓ about.json           2 values in 2 places, equal",
        "✓ doubles.safetensors  6 values in 1 place, largest difference 0, tolerance 1e-06",
        "all hold: 8 values in 2 files",
    ]
    assert "✓ texts[1].letters: 1 value, equal" in said(folder, each=True)[1]


def test_a_difference_names_file_entry_and_place(folder):
    tensors = {"once": torch.arange(6.0).view(2, 3), "twice": 2 * torch.arange(6.0).view(2, 3)}
    tensors["twice"][1, 2] += 0.5
    save_file(tensors, folder.tensors)
    holds, text = said(folder)
    assert not holds
    assert (
        "✗ doubles.safetensors  6 values in 1 place, largest difference 0.5, tolerance 1e-06 (twice)" in text
    )
    assert "beyond at twice[1, 2]: ours 10, recorded 10.5, 0.5 apart (1 of 6)" in text
    assert text.endswith("1 of 2 do not hold")


def test_a_recorded_tensor_that_no_check_reads_does_not_hold(folder):
    save_file({"once": torch.ones(1), "twice": 2 * torch.ones(1), "thrice": torch.ones(1)}, folder.tensors)
    holds, text = said(folder)
    assert not holds
    assert "not compared: thrice" in text


def test_a_recorded_field_that_no_check_reads_does_not_hold(folder):
    rewrite(folder, texts=[{"text": "a", "letters": 1, "vowels": 1}], more={"x": 1})
    holds, text = said(folder)
    assert not holds
    assert "not compared: texts[0].vowels, more" in text


def test_a_check_may_leave_out_what_is_about_others(folder):
    rewrite(folder, largest_error=0.1)
    assert not said(folder)[0]
    folder.module.CHECKS += (lambda recorded: recorded.json("about.json").leave_out("*_error") or (),)
    assert said(folder)[0]


def test_what_this_machine_cannot_compute_is_told_and_the_rest_may_hold(folder):
    rewrite(folder, spoken={"words": 3, "each": [{"a": 1}]})
    assert not said(folder)[0]
    folder.module.CHECKS += (
        lambda recorded: recorded.json("about.json").skip("no speaker", "spoken", "x") or (),
    )
    holds, text = said(folder)
    assert holds
    assert "    skipped: spoken: no speaker" in text
    assert text.endswith("all hold: 8 values in 2 files, but for what was skipped")


def test_a_file_that_no_check_knows_does_not_hold(folder):
    (folder.path / "more.json").write_text("{}")
    holds, text = said(folder)
    assert not holds
    assert "✗ more.json            not compared: nothing here knows this file" in text


def test_a_file_that_is_only_read_is_told(folder):
    (folder.path / "words.txt").write_text("a")
    folder.module.CHECKS += (lambda recorded: recorded.path("words.txt") and (),)
    holds, text = said(folder)
    assert holds
    assert "✓ words.txt            read as input" in text


def test_a_check_that_breaks_stops_no_other(folder):
    def divides(recorded):
        yield recorded.json("about.json").case("texts", 1 / 0)

    folder.module.CHECKS = (divides, *folder.module.CHECKS)
    holds, text = said(folder)
    assert not holds
    assert "✗ the check 'divides' broke" in text
    assert "ZeroDivisionError: division by zero" in text
    assert "✓ doubles.safetensors" in text


def test_comparing_nothing_is_not_holding(folder):
    for path in folder.path.glob("[!.]*"):
        path.unlink()
    folder.module.CHECKS = ()
    assert said(folder) == (False, "nothing was compared")


def test_missing_and_damaged_parts_are_named(folder):
    folder.tensors.write_bytes(folder.tensors.read_bytes()[:50])
    with pytest.raises(UserError, match=r"doubles\.safetensors cannot be read"):
        said(folder)
    save_file({"once": torch.ones(1)}, folder.tensors)
    with pytest.raises(UserError, match=r"doubles\.safetensors: 'twice' is missing"):
        said(folder)
    folder.tensors.unlink()
    with pytest.raises(UserError, match=r"doubles\.safetensors does not exist"):
        said(folder)
    (folder.path / "about.json").write_text("[1]")
    save_file({"once": torch.ones(1), "twice": 2 * torch.ones(1)}, folder.tensors)
    with pytest.raises(UserError, match=r"about\.json: expected one object, found list"):
        said(folder)


def test_the_command_ends_with_0_1_or_2(folder, capsys):
    codes = []
    for arguments in (["toy", folder.path], ["tow", folder.path], ["toy", folder.path / "none"]):
        with pytest.raises(SystemExit) as caught:
            main(["verify", *map(str, arguments)])
        codes.append(caught.value.code or 0)
    rewrite(folder, texts=[{"text": "a", "letters": 2}])
    with pytest.raises(SystemExit) as caught:
        main(["verify", "toy", str(folder.path)])
    assert [*codes, caught.value.code] == [0, 2, 2, 1]
    out, err = capsys.readouterr()
    assert "all hold" in out
    assert "beyond at texts[0].letters: ours 1, recorded 2" in out
    assert "did you mean 'toy'?" in err
    assert "no such folder" in err


@pytest.mark.parametrize("system", verify.SYSTEMS)
def test_every_system_that_is_named_has_checks(system):
    assert import_module(f"vlpnb.{system}.original.verify").CHECKS

"""The comparison under every exercise check: right answers pass, wrong ones are explained."""

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from vlpnb.course.checks import Wrong, compare


def test_right_answers_pass_whatever_their_type():
    compare("x", torch.tensor([1.0, 2.0]), [1, 2])
    compare("x", 3, np.float32(3.00001))
    compare("x", ["a", "b"], ["a", "b"])


@pytest.mark.parametrize("stub", [None, ..., NotImplemented])
def test_a_stub_is_told_apart_from_a_wrong_answer(stub):
    with pytest.raises(Wrong, match="nothing came back yet"):
        compare("the loss", stub, 1.0)


def test_a_typical_slip_is_named():
    with pytest.raises(Wrong, match="divided by the batch"):
        compare("the loss", 0.25, 0.5, {"you divided by the batch, not by the tokens": 0.25})


def test_other_mistakes_show_both_values():
    with pytest.raises(Wrong, match=r"expected 0\.5, found 0\.7"):
        compare("the loss", 0.7, 0.5, {"slip": 0.25})
    with pytest.raises(Wrong, match=r"expected shape \(2,\), found \(3,\)"):
        compare("the loss", [1, 2, 3], [1, 2])
    with pytest.raises(Wrong, match=r"expected shape \(2,\), found dict"):
        compare("the target", {"red": 1.0, "blue": 0.0}, [1, 0])


def test_a_notebook_shows_the_message_without_the_lines_of_the_check(capsys):
    shell = InteractiveShell()
    shell.user_ns |= {"compare": compare}
    result = shell.run_cell("compare('the loss', 0.25, 0.5, {'you divided by the batch': 0.25})")
    assert isinstance(result.error_in_exec, Wrong)
    assert capsys.readouterr().out.strip() == "Not yet: the loss: you divided by the batch"

"""The shapes in the package's annotations are checked whenever a test calls its functions."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor

import vlpnb
from tests import shapes
from vlpnb.metrics.retrieval import recall
from vlpnb.nn import losses
from vlpnb.retrieval.exact import top_k
from vlpnb.text.masking import mask_tokens
from vlpnb.vision.backbones import fuse_batch_norm
from vlpnb.vision.small import SmallResNet
from vlpnb.vokenization.matcher import picture_vectors

SHAPE = re.compile(r"\b(Bool|Float|Int)\d*\[")
MODULES = sorted(
    {module.name for module in pkgutil.walk_packages(vlpnb.__path__, "vlpnb.")} - {"vlpnb.__main__"}
)


def functions_with_shapes(path: Path) -> list[str]:
    """Dotted names of a file's functions and methods whose annotations hold a shape, as written."""

    def visit(node: ast.AST, outer: str):
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.ClassDef):
                yield from visit(inner, f"{outer}{inner.name}.")
            elif isinstance(inner, ast.FunctionDef):
                hints = [
                    inner.returns,
                    *(a.annotation for a in ast.walk(inner.args) if isinstance(a, ast.arg)),
                ]
                if SHAPE.search(" ".join(ast.unparse(hint) for hint in hints if hint)):
                    yield outer + inner.name

    return list(visit(ast.parse(path.read_text(encoding="utf-8")), ""))


@pytest.mark.parametrize("name", MODULES)
def test_every_function_with_a_shape_is_checked(name):
    module = importlib.import_module(name)
    assert {
        f"{name}.{function}" for function in functions_with_shapes(Path(module.__file__))
    } <= shapes.checked


def test_a_wrong_shape_raises_in_every_package():
    def refused(function: str):
        return pytest.raises(TypeCheckError, match=function)

    with refused(r"vlpnb\.nn\.losses\.paired_hinge"):
        losses.paired_hinge(torch.zeros(2, 3, 8), torch.zeros(2, 7), torch.ones(2, 3, dtype=torch.bool))
    with refused(r"vlpnb\.text\.masking\.mask_tokens"):
        mask_tokens(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 4, dtype=torch.bool), 1, 10)
    with refused(r"vlpnb\.retrieval\.exact\.top_k"):
        top_k(torch.zeros(3), torch.zeros(5, 3))
    with refused(r"vlpnb\.metrics\.retrieval\.recall"):
        recall(torch.zeros(2, 2, dtype=torch.long))
    with refused(r"vlpnb\.vision\.small\.SmallResNet\.forward"):
        SmallResNet((4, 4), 2).forward(torch.zeros(3, 16, 16))
    with refused(r"vlpnb\.vokenization\.matcher\.picture_vectors"):
        picture_vectors(torch.nn.Identity(), torch.zeros(4, 8))


def test_a_wrong_result_raises_too(monkeypatch):
    monkeypatch.setattr(losses, "_reduce", lambda terms, *_: terms)
    with pytest.raises(TypeCheckError, match="return value"):
        losses.paired_hinge(torch.zeros(2, 3, 8), torch.zeros(2, 8), torch.ones(2, 3, dtype=torch.bool))


def test_hints_are_searched_for_shapes_at_any_depth():
    shape = Float[Tensor, "B T"]
    for hint in (shape, shape | None, list[shape], dict[str, tuple[int, shape]], Callable[[shape], int]):
        assert shapes.has_shape(hint)
    for hint in (int, Tensor, list[Tensor], "text", None, np.ndarray):
        assert not shapes.has_shape(hint)


def test_modules_imported_too_early_are_named():
    with pytest.raises(RuntimeError, match=r"vlpnb\.config"):
        shapes.install("vlpnb")


def test_a_network_is_traced_as_it_is_outside_of_tests():
    """What stands for a tensor then has no shape; a refusal would leave batch norm as it is, and change last bits."""
    assert fuse_batch_norm(SmallResNet((4, 4, 8), 3).eval()) == 7

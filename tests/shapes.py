"""Checks, in the tests alone, of the shapes that the package's annotations promise."""

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, get_args

import jaxtyping
from beartype import BeartypeConf, beartype
from torch.fx import Proxy

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int may stand for a float
jaxtyped = jaxtyping.jaxtyped
checked: set[str] = set()  # dotted names


def has_shape(hint: Any) -> bool:
    """Whether a type hint speaks of an array's shape, itself or anywhere inside."""
    inside = hint if isinstance(hint, list) else get_args(hint)
    return (inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)) or any(
        map(has_shape, inside)
    )


def where_shaped(typechecker: Any) -> Callable:
    """`jaxtyping.jaxtyped` for functions and dataclasses with a shape among their annotations, nothing for others."""

    def decorate(target):
        if not any(has_shape(hint) for hint in inspect.get_annotations(target).values()):
            return target
        checked.add(f"{target.__module__}.{target.__qualname__}")
        strict = jaxtyped(target, typechecker=typechecker)
        return strict if inspect.isclass(target) else _unless_traced(target, strict)

    return decorate


def _unless_traced(target: Callable, strict: Callable) -> Callable:
    """`strict`, but for the stand-ins without a shape that torch sends through a network to trace it.

    Else batch norm would not be fused in the tests, and nobody would see what users run.
    """

    @functools.wraps(target)
    def call(*arguments, **named):
        traced = any(isinstance(value, Proxy) for value in (*arguments, *named.values()))
        return (target if traced else strict)(*arguments, **named)

    return call


def install(package: str) -> None:
    """Check every function of a package that has a shape in its annotations, whichever test calls it.

    jaxtyping's import hook alone would wrap all functions, and the visual world would be drawn three times slower.
    The hook only reaches modules that are imported later: RuntimeError if one is there already.
    """
    if early := sorted(name for name in sys.modules if name == package or name.startswith(f"{package}.")):
        raise RuntimeError(f"imported before their shapes could be checked: {', '.join(early)}")
    jaxtyping.jaxtyped = where_shaped
    jaxtyping.install_import_hook(package, f"{__name__}.check")

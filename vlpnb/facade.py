"""Façades: a package offers a few names of its modules, and imports a module when one of its names is asked for."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def offers(package: str, where: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package that offers these names.

    Args:
        package: its name.
        where: name → the module that defines it.
    """

    def find(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(where[name]), name)

    return find, lambda: sorted(where)

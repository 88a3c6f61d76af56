"""Every global name that a function of the package uses exists.

Ruff's check for undefined names (F821) is off, because it takes the shapes in jaxtyping annotations for names;
this one looks at the compiled code, where annotations do not occur.
"""

import builtins
import dis
import importlib
import pkgutil
from types import CodeType, ModuleType

import pytest

import vlpnb

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(vlpnb.__path__, "vlpnb.")
    if not module.name.endswith("__main__")
)


def undefined(module: ModuleType) -> set[str]:
    """Global names that the module's code loads and that neither it nor Python defines."""
    with open(module.__file__, encoding="utf-8") as file:
        waiting = [compile(file.read(), module.__file__, "exec")]
    missing = set()
    while waiting:
        code = waiting.pop()
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        loaded = {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"}
        missing |= {name for name in loaded if not hasattr(module, name) and not hasattr(builtins, name)}
    return missing


@pytest.mark.parametrize("name", MODULES)
def test_names_exist(name):
    assert undefined(importlib.import_module(name)) == set()


def test_a_missing_name_is_found(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("def f():\n    return absent + 1\n")
    module = ModuleType("broken")
    module.__file__ = str(file)
    assert undefined(module) == {"absent"}

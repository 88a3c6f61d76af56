"""The façades of the parts: few names, each the one of its module, and nothing heavy until it is asked for."""

import importlib
import subprocess
import sys

import pytest

from vlpnb.facade import offers

FACADES = ("vlpnb.foundations", "vlpnb.vokenization")


@pytest.mark.parametrize("name", FACADES)
def test_a_facade_offers_at_most_ten_names_and_all_of_them(name):
    facade = importlib.import_module(name)
    assert 1 <= len(facade.__all__) <= 10
    assert dir(facade) == sorted(facade.__all__)
    for offered in facade.__all__:
        assert getattr(facade, offered).__name__ == offered


@pytest.mark.parametrize("name", FACADES)
def test_an_unknown_name_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nonsense'"):
        importlib.import_module(name).nonsense  # noqa: B018


def test_importing_a_facade_imports_no_torch():
    code = f"import sys, {', '.join(FACADES)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_offers_find_the_name_in_its_module():
    find, names = offers("somewhere", {"sqrt": "math"})
    assert find("sqrt")(9) == 3
    assert names() == ["sqrt"]

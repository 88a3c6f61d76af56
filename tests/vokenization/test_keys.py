"""Keys: unit rows in the universe's order, broken pictures skipped, id lists really compared."""

import json

import numpy as np
import pytest
import torch

from vlpnb.data.images import open_rgb
from vlpnb.data.store import attributes
from vlpnb.errors import UserError
from vlpnb.vokenization import keys as keys_module
from vlpnb.vokenization.keys import KEYS, KeysConfig, compare_ids, load_keys
from vlpnb.vokenization.matching import load_matcher


def test_rows_are_the_pictures_in_order(small):
    keys = load_keys(small.keys)
    assert keys.ids == tuple(f"universe{i}" for i in range(10) if i != 3)
    assert keys.vectors.dtype == torch.float32
    torch.testing.assert_close(keys.vectors.norm(dim=1), torch.ones(9))
    matcher = load_matcher(small.matching)
    expected = matcher.keys([open_rgb(path) for path in keys.paths])
    torch.testing.assert_close(keys.vectors, expected, atol=1e-5, rtol=0)
    (broken,) = attributes(small.keys / "universe.hdf5")["broken"]
    assert broken[0].endswith("universe3.png")


def test_a_killed_extraction_continues(small, tmp_path, monkeypatch):
    inputs = {"matching": small.matching, "dataset": small.dataset}
    write, calls = keys_module.write_store, []

    def killed(path, *arguments):
        calls.append(path.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(path, *arguments)

    monkeypatch.setattr(keys_module, "write_store", killed)
    with pytest.raises(KeyboardInterrupt):
        small.run(KEYS, KeysConfig(shard=4), tmp_path, **inputs)
    metrics = small.run(KEYS, KeysConfig(shard=4), tmp_path, **inputs)
    assert metrics == {"vokens": 9.0, "broken": 1.0}
    assert calls.count(calls[0]) == 1
    assert np.array_equal(load_keys(tmp_path).vectors, load_keys(small.keys).vectors)


def test_id_lists_are_compared(tmp_path):
    """Spec Q-08: the original raised whatever the lists said."""
    path = tmp_path / "a.ids"
    path.write_text("x\ny\n")
    compare_ids(["x", "y"], path)
    with pytest.raises(UserError, match=r"a\.ids:2: the list says 'y', the pictures give 'z'"):
        compare_ids(["x", "z"], path)
    with pytest.raises(UserError, match="2 ids, the pictures give 3"):
        compare_ids(["x", "y", "z"], path)


def test_the_first_pictures_only(small, tmp_path):
    inputs = {"matching": small.matching, "dataset": small.dataset}
    assert small.run(KEYS, KeysConfig(max_images=3), tmp_path, **inputs)["vokens"] == 3
    assert json.loads((small.matching / "matcher.json").read_text())["features"] == "../features"

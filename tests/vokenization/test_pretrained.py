"""Which snapshot of a pre-training is asked, also after somebody has removed old ones."""

import shutil

import pytest

from vlpnb.errors import UserError
from vlpnb.stage import StageContext
from vlpnb.stage.folder import write_manifest
from vlpnb.vokenization.pretrained import Pretrained, pretrained_folder
from vlpnb.vokenization.pretraining import older_snapshots


@pytest.fixture
def pretraining(tmp_path):
    """The folder of a finished pre-training with three snapshots."""
    for step in (2, 4, 6):
        folder = tmp_path / f"snapshot-{step:07d}"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
    write_manifest(tmp_path, {})
    return tmp_path


def chosen(folder, snapshot):
    context = StageContext(Pretrained(snapshot=snapshot), folder, {"pretraining": folder}, "cpu", name="glue")
    return pretrained_folder(context).name


def test_a_removed_snapshot_shifts_none_of_the_others(pretraining):
    assert [chosen(pretraining, i) for i in (0, 1, -1)] == [f"snapshot-000000{i}" for i in (2, 4, 6)]
    shutil.rmtree(pretraining / "snapshot-0000002")
    assert [chosen(pretraining, i) for i in (1, -1)] == ["snapshot-0000004", "snapshot-0000006"]
    with pytest.raises(UserError, match=r"glue\.snapshot: .*snapshot-0000002 has been removed"):
        chosen(pretraining, 0)
    with pytest.raises(UserError, match="expected a number from -3 to 2"):
        chosen(pretraining, 3)


def test_all_snapshots_but_the_last_may_go():
    names = ["snapshot-0000002/a", "snapshot-0000004/a", "snapshot-0000004/b", "summary.json"]
    assert older_snapshots(names) == ["snapshot-0000002/a"]
    assert older_snapshots(["summary.json"]) == []

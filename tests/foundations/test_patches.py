"""The store of patches: equal to the backbone's own output, complete after a kill, honest about broken pictures."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from tests.small import run_stage
from vlpnb.data.images import open_rgb
from vlpnb.errors import UserError
from vlpnb.foundations import patches as stage
from vlpnb.foundations import picture_store
from vlpnb.foundations.patches import (
    PATCHES,
    Listed,
    PatchesConfig,
    fill_tower,
    listed,
    open_patches,
    open_reader,
)
from vlpnb.foundations.picture_store import ENDLESS, Frame
from vlpnb.vision.backbones import save_backbone
from vlpnb.vision.patches import open_tower, patches, whole_pixels
from vlpnb.vision.small import SmallResNet
from vlpnb.vision.swin import Swin, SwinConfig, original_name

SETTINGS = {"vision": "stage", "shard": 4, "batch": 3}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Ten pictures, the fourth broken, the last one absent, and a random small backbone."""
    root = tmp_path_factory.mktemp("patches")
    rng = np.random.default_rng(0)
    found = []
    for i in range(10):
        path = root / f"p{i}.png"
        if i != 9:
            Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(path)
        found.append(Listed(f"p{i}", path, training=i < 6))
    (root / "p3.png").write_bytes(b"\x89PNG cut short")
    torch.manual_seed(0)
    (root / "vision").mkdir()
    save_backbone(root / "vision", SmallResNet((4, 8, 12), 2).eval(), (4, 8, 12), 32, ["a", "b"])
    return root, found


def run(made, folder, monkeypatch, **fields):
    root, found = made
    monkeypatch.setattr(stage, "listed", lambda config, folders: found)
    config = PatchesConfig(**SETTINGS | fields)
    return run_stage(PATCHES, config, folder, vision=root / "vision")


def test_the_store_holds_what_the_backbone_gives(made, tmp_path, monkeypatch):
    metrics = run(made, tmp_path, monkeypatch)
    assert metrics == {"images": 8, "views": 8, "broken": 2, "patches": 16, "width": 12}
    store, (root, _) = open_patches(tmp_path), made
    assert store.ids == ["p0", "p1", "p2", "p4", "p5", "p6", "p7", "p8"]
    assert (store.patches, store.width, store.grid, len(store)) == (16, 12, 4, 8)
    tower, shown = open_tower(root / "vision"), [open_rgb(root / f"p{i}.png") for i in (7, 1)]
    with torch.no_grad():
        expected = patches(tower, torch.stack([whole_pixels(tower, picture) for picture in shown]))
    found = store.gather(store.rows(["p7", "p1"]))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)  # stored in half precision
    torch.testing.assert_close(open_reader(tmp_path)(shown), expected[None], atol=1e-5, rtol=1e-5)


def test_broken_and_absent_pictures_are_listed_and_asking_for_them_says_why(made, tmp_path, monkeypatch):
    run(made, tmp_path, monkeypatch)
    store = open_patches(tmp_path)
    assert set(store.broken) == {"p3", "p9"}
    assert "p1" in store
    assert "p3" not in store
    with pytest.raises(UserError, match=r"'p9' could not be read \(the file does not exist\)"):
        store.rows(["p1", "p9"])
    with pytest.raises(UserError, match=r"'elsewhere' is not there.*patches\.sources"):
        store.rows(["elsewhere"])


def test_training_pictures_have_random_views_that_do_not_depend_on_the_cut(made, tmp_path, monkeypatch):
    for name, shard, batch in (("a", 4, 3), ("b", 7, 32)):
        run(made, tmp_path / name, monkeypatch, train_views=2, shard=shard, batch=batch)
    one, other = (open_patches(tmp_path / name) for name in "ab")
    rows = one.rows(["p0", "p5", "p6"])
    assert one.views(rows).tolist() == [3, 3, 1]
    assert one.source.counts.sum() == 5 * 3 + 3
    views = [one.gather(rows[:2], view) for view in range(3)]
    assert all((views[i] - views[j]).abs().max() > 0.01 for i, j in ((0, 1), (0, 2), (1, 2)))
    for view in range(3):
        torch.testing.assert_close(views[view], other.gather(rows[:2], view), atol=2e-3, rtol=2e-3)
    mixed = one.gather(rows, np.array([2, 1, 0]))
    assert torch.equal(mixed[0], views[2][0])
    assert torch.equal(mixed[1], views[1][1])
    with pytest.raises(UserError, match=r"view 1 of 'p6', which has 1"):
        one.gather(rows, 1)


def test_a_killed_run_continues_and_gives_the_same_bytes(made, tmp_path, monkeypatch):
    run(made, tmp_path / "once", monkeypatch, train_views=1)
    work, calls = stage._Work.__call__, []

    def killed(self, unit):
        calls.append(unit)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return work(self, unit)

    monkeypatch.setattr(stage._Work, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        run(made, tmp_path / "again", monkeypatch, train_views=1)
    run(made, tmp_path / "again", monkeypatch, train_views=1)
    assert calls == [0, 1, 2, 2]  # the first two units were not made again
    for name in (stage.STORE, "patches.ids", stage.BROKEN):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()
    assert not list((tmp_path / "again").glob("checkpoint-*"))


def test_fewer_cells_make_a_smaller_store_whose_mean_is_that_of_its_cells(made, tmp_path, monkeypatch):
    metrics = run(made, tmp_path, monkeypatch, cells=2)
    assert metrics["patches"] == 4
    found = open_patches(tmp_path).gather(np.arange(8))
    torch.testing.assert_close(found[:, 0], found[:, 1:].mean(1), atol=2e-3, rtol=2e-3)


def test_a_store_that_is_cut_short_or_beside_other_ids_is_refused(made, tmp_path, monkeypatch):
    run(made, tmp_path, monkeypatch)
    data = (tmp_path / stage.STORE).read_bytes()
    (tmp_path / stage.STORE).write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="not a complete HDF5 file"):
        open_patches(tmp_path)
    (tmp_path / stage.STORE).write_bytes(data)
    (tmp_path / "patches.ids").write_text("p0\n")
    with pytest.raises(UserError, match="holds 8 pictures, its list of ids 1"):
        open_patches(tmp_path)


def test_no_readable_picture_is_an_error(made, tmp_path, monkeypatch):
    root, found = made
    with pytest.raises(UserError, match=r"none of the 2 pictures of patches"):
        run((root, [found[3], found[9]]), tmp_path, monkeypatch)


def test_a_picture_of_two_sources_is_encoded_once_and_two_of_one_id_are_refused(made, tmp_path, monkeypatch):
    root, _ = made
    shutil.copyfile(root / "p1.png", tmp_path / "same.png")
    sources = {
        "multilingual": [Listed("p1", root / "p1.png", True), Listed("p2", root / "p2.png", False)],
        "iglue": [Listed("p1", tmp_path / "same.png", False), Listed("p2", root / "p2.png", True)],
    }
    monkeypatch.setattr(stage, "_named", lambda source, folder, most: iter(sources[source]))
    folders = dict.fromkeys(sources, tmp_path)
    found = listed(PatchesConfig(), folders)
    assert [(p.id, p.training) for p in found] == [("p1", True), ("p2", True)]
    sources["iglue"][0] = Listed("p1", root / "p5.png", False)
    with pytest.raises(UserError, match="two pictures with the id 'p1'"):
        listed(PatchesConfig(), folders)


def test_the_paper_is_the_default_and_sources_are_named_once():
    config = PatchesConfig()
    assert (config.vision, config.crop_scale, config.flip) == ("swin_b", (0.2, 1.0), True)
    with pytest.raises(ValueError, match="names one twice"):
        PatchesConfig(sources=("iglue", "iglue"))


@pytest.fixture
def pixels(made, tmp_path, monkeypatch):
    """A store of pixels for a random Swin in a file."""
    _, found = made
    torch.manual_seed(1)
    tower = Swin(SwinConfig(image_size=32, window=4, embed=8, depths=(1, 1), heads=(1, 2))).eval()
    state = {original_name(name): value for name, value in tower.state_dict().items()}
    torch.save({"model": state}, tmp_path / "swin.pth")
    monkeypatch.setattr(stage, "listed", lambda config, folders: found)
    config = PatchesConfig(keep="pixels", vision=str(tmp_path / "swin.pth"), seed=7)
    metrics = run_stage(PATCHES, config, tmp_path / "pixels")
    return metrics, tmp_path / "pixels", tower


def test_other_pictures_have_the_set_views(made, tmp_path, monkeypatch):
    run(made, tmp_path, monkeypatch, train_views=1, eval_views=("whole", "inner", "whole_flip"))
    store, (root, _) = open_patches(tmp_path), made
    trained, other = store.rows(["p0"]), store.rows(["p6", "p7"])
    assert store.views(np.append(trained, other)).tolist() == [2, 3, 3]
    assert (store.eval_views(other), store.eval_views(np.append(trained, other))) == (3, 1)
    shown = [open_rgb(root / f"p{i}.png") for i in (6, 7)]
    read = open_reader(tmp_path)(shown)
    for view in range(3):
        torch.testing.assert_close(store.gather(other, view), read[view], atol=2e-3, rtol=2e-3)
    width, height = shown[0].size
    inner = shown[0].crop((width // 10, height // 10, width - width // 10, height - height // 10))
    for view, picture in ((1, inner), (2, ImageOps.mirror(shown[0]))):
        torch.testing.assert_close(read[view, :1], open_reader(tmp_path)([picture])[0])
    with pytest.raises(
        UserError, match=r"view 3 of 'p6', which has 3; set patches.train_views or patches.eval"
    ):
        store.gather(other, 3)
    for wrong in (("inner",), ("whole", "whole"), ()):
        with pytest.raises(ValueError, match="eval_views"):
            PatchesConfig(eval_views=wrong)


def test_pixels_are_decoded_when_they_are_asked_for(made, pixels):
    (root, _), (metrics, folder, tower) = made, pixels
    assert metrics == {"images": 8, "views": 0, "broken": 2, "patches": 16, "width": 16}
    assert not (folder / stage.STORE).exists()
    store, shown = open_patches(folder), open_rgb(root / "p7.png")
    found = store.gather(store.rows(["p7", "p1"]))
    assert found.shape == (2, 3, 32, 32)
    assert torch.equal(found[0], tower.pixels(shown))
    assert torch.equal(open_reader(folder)([shown]), found[None, :1])
    assert set(store.broken) == {"p3", "p9"}
    moved = (root / "p8.png").rename(root / "gone.png")
    try:
        with pytest.raises(UserError, match=r"p8\.png: the file does not exist"):
            store.gather(store.rows(["p8"]))
    finally:
        moved.rename(root / "p8.png")


def test_pixels_of_training_pictures_have_random_views_without_end(pixels):
    _, folder, _ = pixels
    store, again = open_patches(folder), open_patches(folder)
    rows = store.rows(["p0", "p6"])
    assert store.views(rows).tolist() == [ENDLESS, 1]
    views = [store.gather(rows[:1], view) for view in (0, 1, 123_456_789)]
    assert all(not torch.equal(views[i], views[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert torch.equal(again.gather(rows[:1], 123_456_789), views[2])
    with pytest.raises(UserError, match=r"view 1 of 'p6', which has 1"):
        store.gather(rows, 1)


def test_a_swin_begins_with_the_weights_of_the_store(pixels):
    _, folder, tower = pixels
    store = open_patches(folder)
    swin = Swin(store.swin).eval()
    fill_tower(swin, folder)
    seen = store.gather(store.rows(["p2"]))
    with torch.no_grad():
        assert torch.equal(swin(seen), tower(seen))


def test_only_a_swin_reads_pixels(made, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="'stage' is no Swin"):
        run(made, tmp_path, monkeypatch, keep="pixels")


def test_pixels_can_be_cut_and_mirrored_and_patches_cannot(made, pixels, tmp_path, monkeypatch):
    (root, _), (_, folder, tower) = made, pixels
    store, shown = open_patches(folder), open_rgb(root / "p1.png")
    assert store.frames
    frames = [Frame((4, 2, 24, 22), False), Frame((4, 2, 24, 22), True)]
    rows = store.rows(["p1", "p1"])
    monkeypatch.setattr(picture_store, "rand_augment", lambda image, generator, geometric: image)
    found = store.framed(rows, frames, 0)
    assert torch.equal(found[0], tower.pixels(shown.crop((4, 2, 24, 22))))
    assert torch.equal(found[1], found[0].flip(2))
    monkeypatch.undo()
    seeds = [store.framed(rows[:1], frames[:1], seed) for seed in range(8)]
    assert torch.equal(seeds[3], store.framed(rows[:1], frames[:1], 3))
    assert len({seed.numpy().tobytes() for seed in seeds}) > 1
    run(made, tmp_path / "patches", monkeypatch)
    with pytest.raises(UserError, match="nothing can be cut"):
        open_patches(tmp_path / "patches").framed(rows, frames, 0)

"""Pictures as they come: every odd kind becomes a key, every broken one is counted and listed, none stops the work."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from vlpnb.data.captions import CaptionedImage
from vlpnb.data.images import BrokenImage, list_images, open_rgb
from vlpnb.data.store import attributes
from vlpnb.errors import UserError
from vlpnb.foundations.picture_keys import extract_keys
from vlpnb.vision.transforms import eval_view, train_view
from vlpnb.vokenization.keys import load_keys

BROKEN = {
    "empty.png": "the file is empty",
    "cut.jpg": "cannot be decoded",
    "text.png": "cannot be decoded",
    "bomb.png": "cannot be decoded",
}


def bomb() -> bytes:
    """A PNG of a few hundred bytes that says it has 40,000 × 40,000 pixels (4.8 GB)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Four broken pictures and seven odd ones that are whole."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    plain = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(np.uint8))
    plain.convert("L").save(folder / "grey.png")
    plain.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.full((20, 20), 40_000, np.uint16)).save(folder / "sixteen.png")
    plain.save(folder / "animated.gif", save_all=True, append_images=[plain.rotate(90), plain.rotate(180)])
    Image.new("RGB", (1, 30_000), "red").save(folder / "thread.png")
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    Image.new("L", (5000, 4000)).save(folder / "large.png")
    plain.save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:300])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("<html>404 not found</html>")
    (folder / "bomb.png").write_bytes(bomb())
    return folder


class MeanColours:
    """In place of a matcher: a picture's vector is the mean colour of its central view."""

    def pixels(self, picture):
        return torch.from_numpy(np.array(eval_view(picture, 8)))

    def keys_of(self, pixels):
        return torch.stack(list(pixels)).double().mean((1, 2))


def test_keys_of_a_folder_with_everything_in_it(folder, tmp_path):
    images = [CaptionedImage(path.stem, path, ()) for path in list_images(folder).files]
    images.insert(3, CaptionedImage("gone", folder / "gone.png", ()))
    target = tmp_path / "keys"
    target.mkdir()
    assert extract_keys(MeanColours(), images, target, shard=3, batch=2, source="backbone") == 5
    keys = load_keys(target, source="backbone")
    assert sorted(keys.ids) == ["animated", "cmyk", "dot", "grey", "large", "sixteen", "thread"]
    assert list(keys.ids) == [image.image_id for image in images if image.image_id in keys.ids]
    assert torch.isfinite(keys.vectors).all()
    assert keys.vectors[keys.ids.index("sixteen")].tolist() == pytest.approx([156, 156, 156], abs=1)
    listed = {Path(path).name: reason for path, reason in attributes(target / "universe.hdf5")["broken"]}
    assert listed.keys() == {*BROKEN, "gone.png"}
    assert all(
        reason.startswith(BROKEN.get(name, "the file does not exist")) for name, reason in listed.items()
    )


def test_nothing_but_broken_pictures_is_an_error(folder, tmp_path):
    images = [CaptionedImage(Path(name).stem, folder / name, ()) for name in BROKEN]
    with pytest.raises(UserError, match=r"none of the 4 pictures can be read; the first is .*empty\.png"):
        extract_keys(MeanColours(), images, tmp_path)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_picture_names_itself(folder, name):
    with pytest.raises(BrokenImage, match=rf"{name}: {BROKEN[name]}.*fetch it again or remove it"):
        open_rgb(folder / name)


@pytest.mark.parametrize("name", ["thread.png", "dot.png", "large.png"])
def test_extreme_shapes_give_ordinary_views(folder, name):
    picture = open_rgb(folder / name)
    assert {eval_view(picture, 32, view).size for view in ("centre", "whole")} == {(32, 32)}
    assert train_view(picture, 32, torch.Generator().manual_seed(0)).size == (32, 32)


def box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", 8 + len(data)) + kind + data


def empty_avif(folder: Path) -> bytes:
    """An AVIF whose data box is empty: its decoder refuses it in a way of its own."""
    path = folder / "whole.avif"
    Image.effect_noise((32, 32), 50).convert("RGB").save(path)
    whole = path.read_bytes()
    path.unlink()
    at = whole.index(b"mdat") - 4
    return whole[:at] + box(b"mdat", b"")


def test_a_picture_that_its_decoder_refuses_in_its_own_way_is_broken(tmp_path):
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    Image.new("RGB", (8, 8)).save(tmp_path / "good.avif")
    assert open_rgb(tmp_path / "good.avif").size == (8, 8)
    (tmp_path / "a.jpg").write_bytes(empty_avif(tmp_path))
    with pytest.raises(BrokenImage, match=r"a\.jpg: cannot be decoded"):
        open_rgb(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("no"),
        struct.error("no"),
        zlib.error("no"),
        AttributeError(),
        RecursionError("no"),
        KeyError(3),
    ],
)
def test_whatever_a_decoder_raises_is_a_broken_picture(tmp_path, monkeypatch, error):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def load(self):
        raise error

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(BrokenImage, match=r"a\.png: cannot be decoded \(.+\)"):
        open_rgb(tmp_path / "a.png")


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_memory_and_interrupts_are_no_broken_pictures(tmp_path, monkeypatch, error):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def load(self):
        raise error

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(error):
        open_rgb(tmp_path / "a.png")


def test_no_other_program_is_started_for_a_picture(tmp_path, monkeypatch):
    """An EPS whatever its name says is a program for Ghostscript."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("started Ghostscript"))
    with pytest.raises(BrokenImage, match=r"a\.png: cannot be decoded: no JPEG, PNG, .* or AVIF"):
        open_rgb(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "bmp", "tiff", "mpo"])
def test_the_common_kinds_are_read_whatever_their_name_says(tmp_path, kind):
    picture = Image.new("RGB", (9, 7), "red")
    picture.save(
        tmp_path / "a.jpg", kind, **({"save_all": True, "append_images": [picture]} if kind == "mpo" else {})
    )
    assert open_rgb(tmp_path / "a.jpg").size == (9, 7)

"""Every kind of picture becomes RGB or a BrokenImage that names it."""

import pickle

import numpy as np
import pytest
from PIL import Image

from vlpnb.data.images import BrokenImage, list_images, open_rgb
from vlpnb.errors import UserError


def gradient(mode="RGB"):
    values = np.linspace(0, 255, 32 * 24 * 3).reshape(24, 32, 3).astype(np.uint8)
    return Image.fromarray(values).convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("RGB", ".jpg"),
        ("CMYK", ".jpg"),
        ("L", ".jpg"),
        ("P", ".png"),
        ("1", ".png"),
        ("RGBA", ".png"),
        ("LA", ".png"),
    ],
)
def test_modes(tmp_path, mode, suffix):
    gradient(mode).save(tmp_path / f"x{suffix}")
    image = open_rgb(tmp_path / f"x{suffix}")
    assert (image.mode, image.size) == ("RGB", (32, 24))
    if mode in {"RGB", "CMYK"}:
        assert np.abs(np.asarray(image, float) - np.asarray(gradient(), float)).mean() < 12


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    found = np.asarray(open_rgb(tmp_path / "x.png"))[..., 0]
    assert np.abs(found.astype(float) - values / 257).max() <= 1


def test_transparency_is_laid_on_white(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "x.png")
    assert (np.asarray(open_rgb(tmp_path / "x.png")) == 255).all()


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:], duration=50)
    assert open_rgb(tmp_path / "x.gif").getpixel((3, 3)) == (255, 0, 0)


def test_rotation_in_exif_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    gradient().save(tmp_path / "x.jpg", exif=exif)
    assert open_rgb(tmp_path / "x.jpg").size == (24, 32)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_broken_files(tmp_path, suffix):
    good = tmp_path / f"good{suffix}"
    Image.effect_noise((64, 64), 80).convert("RGB").save(good)
    whole = good.read_bytes()
    for name, content in {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "foreign": b"<html>404</html>",
    }.items():
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(content)
        with pytest.raises(BrokenImage, match=name) as caught:
            open_rgb(path)
        assert isinstance(caught.value, UserError)
        copy = pickle.loads(pickle.dumps(caught.value))
        assert (copy.path, str(copy)) == (path, str(caught.value))
    with pytest.raises(BrokenImage, match="does not exist"):
        open_rgb(tmp_path / "nothing.jpg")
    with pytest.raises(BrokenImage):
        open_rgb(tmp_path)


def test_list_images(tmp_path):
    for name in ("b/2.JPG", "a.png", "notes.txt", "b/1.jpeg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [p.relative_to(tmp_path).as_posix() for p in list_images(tmp_path)] == [
        "a.png",
        "b/1.jpeg",
        "b/2.JPG",
    ]

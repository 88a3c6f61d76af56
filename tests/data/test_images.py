"""Every kind of picture becomes RGB or a BrokenImage that names it."""

import os
import pickle

import numpy as np
import pytest
from PIL import Image

from vlpnb.data.images import BrokenImage, list_images, open_rgb, picture_id
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


def paths(listing):
    return [path.relative_to(listing.folder).as_posix() for path in listing.files]


def touch(*files):
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_the_pictures_of_a_folder_come_by_path(tmp_path):
    touch(*(tmp_path / name for name in ("b/2.JPG", "a.png", "notes.txt", "b/1.jpeg")))
    listing = list_images(tmp_path)
    assert paths(listing) == ["a.png", "b/1.jpeg", "b/2.JPG"]
    assert [picture_id(path) for path in paths(listing)] == ["a", "b/1", "b/2"]
    assert listing.said() == f"{tmp_path}: 3 taken; left out: 1 no picture by the name (notes.txt)"


def test_linked_folders_are_searched_once_and_circles_end(tmp_path):
    folder, elsewhere = tmp_path / "pictures", tmp_path / "elsewhere"
    touch(folder / "own/1.png", elsewhere / "2.png", elsewhere / "deep/3.png")
    (folder / "a").symlink_to(elsewhere)
    (folder / "b").symlink_to(elsewhere)
    (folder / "an_own").symlink_to(folder / "own")
    (elsewhere / "back").symlink_to(folder)
    (folder / "gone.png").symlink_to(tmp_path / "nothing")
    (folder / "self").symlink_to(folder / "self")
    (folder / "4.png").symlink_to(elsewhere / "2.png")
    listing = list_images(folder)
    assert paths(listing) == ["4.png", "a/2.png", "a/deep/3.png", "own/1.png"]
    reasons = {path.relative_to(folder).as_posix(): why for path, why in listing.left_out}
    assert reasons.keys() == {"b", "an_own", "a/back", "gone.png", "self"}
    assert reasons["b"] == reasons["a/back"] == "linked folders that are listed already"


def test_files_of_the_system_are_passed_over_and_said(tmp_path):
    odd = ["._a.png", ".cache/b.png", "@eaDir/a.png", "__MACOSX/a.png", "line\nbreak.png"]
    touch(tmp_path / "a.png", *(tmp_path / name for name in odd))
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    listing = list_images(tmp_path)
    assert paths(listing) == ["a.png"]
    assert "4 hidden or of the system" in listing.said()
    assert (
        "2 with a line break, or bytes that are not UTF-8, in the name (caf\\udce9.png …)" in listing.said()
    )


def test_two_pictures_of_one_id_are_named(tmp_path):
    touch(tmp_path / "a/x.png", tmp_path / "b/x.png")
    assert paths(list_images(tmp_path)) == ["a/x.png", "b/x.png"]
    touch(tmp_path / "a/x.jpg")
    with pytest.raises(UserError, match=r"a/x\.jpg and .*a/x\.png: two pictures with the id 'a/x'"):
        list_images(tmp_path)


def test_a_folder_that_is_none_is_named(tmp_path):
    touch(tmp_path / "file")
    with pytest.raises(UserError, match="file: cannot be read"):
        list_images(tmp_path / "file")
    if os.getuid():
        touch(tmp_path / "shut/a.png")
        (tmp_path / "shut").chmod(0)
        assert "1 folders that cannot be read (shut)" in list_images(tmp_path).said()

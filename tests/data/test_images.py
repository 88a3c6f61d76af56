"""Every kind of picture becomes RGB or a BrokenImage that names it."""

import os
import pickle
import threading
import time
import warnings
import weakref

import numpy as np
import pytest
from PIL import Image

from vlpnb.data.images import (
    BrokenImage,
    decoded,
    decoding_threads,
    list_images,
    open_rgb,
    picture_id,
    picture_size,
)
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


@pytest.mark.parametrize("turn", [1, 2, 6, 8])
def test_the_size_in_a_header_is_that_of_the_decoded_picture(tmp_path, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    gradient().save(tmp_path / "x.jpg", exif=exif)
    assert picture_size(tmp_path / "x.jpg") == open_rgb(tmp_path / "x.jpg").size
    with pytest.raises(BrokenImage, match="does not exist"):
        picture_size(tmp_path / "y.jpg")
    (tmp_path / "z.jpg").write_bytes(b"no picture")
    with pytest.raises(BrokenImage, match="cannot be opened"):
        picture_size(tmp_path / "z.jpg")


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


@pytest.fixture
def folder(tmp_path):
    """Forty pictures, each of one grey value, which is its number; every seventh is broken."""
    paths = [tmp_path / f"{i:02d}.png" for i in range(40)]
    for i, path in enumerate(paths):
        Image.new("L", (20, 10), i).save(path)
        if i % 7 == 3:
            path.write_bytes(path.read_bytes()[:40])
    return paths


@pytest.mark.parametrize("threads", [1, 3, 50, None])
def test_pictures_decoded_ahead_come_in_order_and_broken_ones_as_values(folder, threads):
    def prepare(position, picture):
        time.sleep(0.001 * (position % 5))  # the later ones overtake
        return position, picture.getpixel((0, 0))[0]

    found = list(decoded(folder, prepare, threads))
    assert [item for item in found if not isinstance(item, BrokenImage)] == [
        (i, i) for i in range(40) if i % 7 != 3
    ]
    broken = {i: item.path for i, item in enumerate(found) if isinstance(item, BrokenImage)}
    assert broken == {i: folder[i] for i in range(3, 40, 7)}
    assert list(decoded([], prepare, threads)) == []


def test_no_more_whole_pictures_are_held_than_there_are_threads(folder, monkeypatch):
    """However slow the reader is, and however much it keeps of what it is given."""
    alive, most = weakref.WeakValueDictionary(), []

    def watched(path):
        picture = Image.new("RGB", (20, 10))
        alive[id(picture)] = picture
        most.append(len(alive))
        return picture

    monkeypatch.setattr("vlpnb.data.images.open_rgb", watched)
    kept = []
    for item in decoded(folder, lambda position, picture: position, threads=3):
        time.sleep(0.002)
        assert len(most) <= item + 2 * 3  # threads stop when they are so far ahead
        kept.append(item)
    assert kept == list(range(40))
    assert max(most) <= 3


def test_a_mistake_in_a_thread_is_raised_where_its_picture_would_have_come(folder):
    def prepare(position, picture):
        if position == 4:
            raise ZeroDivisionError
        return position

    found = decoded(folder, prepare, threads=2)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    assert isinstance(next(found), BrokenImage)
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_a_reader_that_stops_ends_the_threads(folder):
    before = threading.active_count()
    found = decoded(folder, lambda position, picture: position, threads=4)
    assert next(found) == 0
    found.close()
    assert threading.active_count() == before


def test_threads_leave_the_filters_of_warnings_alone(tmp_path):
    """Pillow remarks on a palette with transparency; nobody wants to know, and everybody other warnings."""
    palette = Image.new("P", (4, 4))
    palette.putpalette([0, 0, 0, 255, 255, 255])
    palette.save(tmp_path / "x.png", transparency=bytes([10, 200]))
    before = list(warnings.filters)
    list(decoded([tmp_path / "x.png"] * 200, lambda position, picture: None, threads=8))
    assert warnings.filters == before
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_processes_of_one_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(12)), raising=False)
    assert decoding_threads() == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert decoding_threads() == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "64")
    assert decoding_threads() == 1

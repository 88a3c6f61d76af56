"""Archives that stay inside their folder, and those that are damaged, hostile or too large: one error, nothing left."""

import bz2
import gzip
import io
import lzma
import shutil
import tarfile
import zipfile

import pytest

from vlpnb.data import archives
from vlpnb.data.archives import unpack
from vlpnb.errors import UserError


def zipped(path, members, link=None):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, "/etc/passwd")
    return path


def tarred(path, members, kind=None):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()))
        if kind:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = kind, "../outside"
            archive.addfile(info)
    return path


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_unpack(tmp_path, pack):
    archive = pack(tmp_path / "x.archive", {"a/b.txt": "one", "c.txt": "two"})
    files = unpack(archive, tmp_path / "out")
    assert sorted(f.relative_to(tmp_path / "out").as_posix() for f in files) == ["a/b.txt", "c.txt"]
    assert (tmp_path / "out/a/b.txt").read_text() == "one"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a", "c.txt"]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: zipped(p, {"fine.txt": "", "../evil.txt": "x"}),
        lambda p: zipped(p, {"fine.txt": "", "/evil.txt": "x"}),
        lambda p: zipped(p, {"fine.txt": "", "a\\..\\..\\evil.txt": "x"}),
        lambda p: zipped(p, {"fine.txt": ""}, link="evil.txt"),
        lambda p: tarred(p, {"fine.txt": "", "a/../../evil.txt": "x"}),
        lambda p: tarred(p, {"fine.txt": ""}, tarfile.SYMTYPE),
        lambda p: tarred(p, {"fine.txt": ""}, tarfile.LNKTYPE),
        lambda p: tarred(p, {"fine.txt": ""}, tarfile.CHRTYPE),
    ],
)
def test_hostile_archives_write_nothing(tmp_path, make):
    archive = make(tmp_path / "x.archive")
    with pytest.raises(UserError, match="nothing was unpacked"):
        unpack(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "x.archive"]


def test_damaged_archives(tmp_path):
    path = zipped(tmp_path / "x.zip", {"a.txt": "hello" * 100})
    raw = bytearray(path.read_bytes())
    raw[60] ^= 255
    path.write_bytes(raw)
    with pytest.raises(UserError, match="damaged archive"):
        unpack(path, tmp_path / "out")
    path.write_bytes(b"<html>")
    with pytest.raises(UserError, match="neither a zip nor a tar"):
        unpack(path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def kept(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def encrypted(path):
    """A zip whose member says that it is encrypted (bit 0 of the flags, in both headers)."""
    raw = bytearray(zipped(path, {"a.txt": "hello"}).read_bytes())
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)


def unknown_method(path):
    raw = bytearray(zipped(path, {"a.txt": "hello"}).read_bytes())
    raw[8] = raw[raw.index(b"PK\x01\x02") + 10] = 99
    path.write_bytes(raw)


def twice(path, names=("a.txt", "./a.txt")):
    with tarfile.open(path, "w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 2
            archive.addfile(info, io.BytesIO(b"hi"))


def lying(path):
    """A zip whose directory states fewer bytes than its member has."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", b"x" * 100_000)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"PK\x01\x02") + 24
    raw[at : at + 4] = (10).to_bytes(4, "little")
    path.write_bytes(raw)


HOSTILE = {
    "encrypted": (encrypted, "is encrypted; expected an archive without a password"),
    "unknown method": (unknown_method, "a damaged archive"),
    "twice": (twice, "member './a.txt' is in it twice"),
    "a file and a folder": (lambda p: twice(p, ("a", "a/b.txt")), "member 'a' is a file and a folder"),
    "the other way": (lambda p: twice(p, ("a/b.txt", "a")), "member 'a' is a file and a folder"),
    "a line break": (lambda p: twice(p, ("a\nb.txt",)), r"member 'a\\nb\.txt' has a line break"),
    "lying": (lying, "a damaged archive"),
    "in the way": (lambda p: twice(p, ("there/x",)), "is a folder, but .* is a file"),
    "on a folder": (lambda p: twice(p, ("folder",)), "is a file, but .* is a folder"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_unpacked_whole_is_not_begun(tmp_path, name):
    make, message = HOSTILE[name]
    make(tmp_path / "x.archive")
    out = tmp_path / "out"
    (out / "folder").mkdir(parents=True)
    (out / "there").write_text("mine")
    with pytest.raises(UserError, match=rf"x\.archive: .*{message}"):
        unpack(tmp_path / "x.archive", out)
    assert sorted(path.name for path in out.iterdir()) == ["folder", "there"]
    assert (out / "there").read_text() == "mine"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize(
    "damage", [lambda raw: raw[: len(raw) // 2], lambda raw: raw[:40] + b"\0" * 99 + raw[139:]]
)
def test_a_damaged_tar_of_any_compression_is_one_error(tmp_path, pack, damage):
    twice(tmp_path / "x.tar", [f"{i}.txt" for i in range(500)])
    path = tmp_path / "x.tar.z"
    path.write_bytes(damage(pack((tmp_path / "x.tar").read_bytes())))
    with pytest.raises(UserError, match=r"x\.tar\.z: (a damaged archive|neither a zip nor a tar)"):
        unpack(path, tmp_path / "out")
    assert kept(tmp_path / "out") == []


def bomb_zip(path, size):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros", "w") as file:
        for _ in range(size // (1 << 20)):
            file.write(bytes(1 << 20))


def bomb_tar(path, size):
    info = tarfile.TarInfo("zeros")
    info.size = size
    with gzip.open(path, "wb", 1) as file:
        file.write(info.tobuf())  # the bytes never come: the header alone is enough to refuse


@pytest.mark.parametrize("bomb", [bomb_zip, bomb_tar])
def test_a_bomb_is_refused_before_it_is_written(tmp_path, bomb, monkeypatch):
    monkeypatch.setattr(archives, "ANYWAY", 1 << 20)
    bomb(tmp_path / "x.archive", 32 << 20)
    with pytest.raises(UserError, match="which no honest archive of this size has; nothing was unpacked"):
        unpack(tmp_path / "x.archive", tmp_path / "out")
    assert kept(tmp_path / "out") == []


def test_an_archive_that_does_not_fit_or_has_too_many_members_is_refused(tmp_path, monkeypatch):
    path = zipped(tmp_path / "x.zip", {"a.txt": "hello", "b.txt": "hello"})
    with monkeypatch.context() as patched:
        usage = shutil.disk_usage(tmp_path)
        patched.setattr("shutil.disk_usage", lambda _: usage._replace(free=7))
        with pytest.raises(UserError, match="more than the 7 bytes that are free on the disk"):
            unpack(path, tmp_path / "out")
    monkeypatch.setattr(archives, "MEMBERS", 1)
    with pytest.raises(UserError, match="more than 1 members"):
        unpack(path, tmp_path / "out")


def test_what_a_killed_process_left_is_swept(tmp_path):
    path = zipped(tmp_path / "x.zip", {"a.txt": "hello"})
    left = tmp_path / "out/.unpack-x.zip"
    left.mkdir(parents=True)
    (left / "half").write_text("half")
    unpack(path, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.txt"]

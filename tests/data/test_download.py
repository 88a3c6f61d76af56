"""Downloads that resume and are of one file, and the catalog. The server is a local one."""

import hashlib
import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import vlpnb.data.download
from tests.data.test_archives import zipped
from vlpnb.data import catalog
from vlpnb.data.catalog import DATASETS, Expected, PublicDataset, Remote
from vlpnb.data.download import download
from vlpnb.data.fetching import check_folder, fetch
from vlpnb.errors import UserError

BODY = bytes(range(256)) * 2000
HASH = hashlib.sha256(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves BODY at /file, cuts the connection at /cut, ignores ranges at /norange, and remembers requests.

    `tags` holds the ETag of a path; If-Range is answered as the standard says.
    """

    daemon_threads = True

    def __init__(self):
        self.requests, self.files, self.tags = [], {}, {}
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        body = self.server.files.get(self.path, BODY)
        if self.path == "/missing":
            self.send_error(404)
            return
        tag, wanted = self.server.tags.get(self.path), self.headers.get("If-Range")
        ranged = asked and self.path != "/norange" and wanted in (None, tag)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if ranged else 0
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if tag:
            self.send_header("ETag", tag)
        if self.path != "/endless":
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = start + 100_000 if self.path == "/cut" else len(body)
        self.wfile.write(body[start:end])


@pytest.fixture(scope="module")
def _running():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(_running, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    _running.requests.clear()
    _running.files.clear()
    _running.tags.clear()
    return _running


def test_whole_file_and_second_call(server, tmp_path):
    seen = []
    path = download(f"{server.url}/file", tmp_path / "a" / "x.bin", HASH, progress=lambda *p: seen.append(p))
    assert path.read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY))
    assert [p.name for p in path.parent.iterdir()] == ["x.bin"]
    download(f"{server.url}/file", path, HASH)
    assert len(server.requests) == 1


def test_broken_connection_is_continued(server, tmp_path):
    target, part = tmp_path / "x.bin", tmp_path / "x.bin.part"
    with pytest.raises(UserError, match="run the same command again"):
        download(f"{server.url}/cut", target, HASH)
    have = part.stat().st_size
    assert 0 < have < len(BODY)
    assert not target.exists()
    assert download(f"{server.url}/file", target, HASH).read_bytes() == BODY
    assert server.requests[-1] == ("/file", f"bytes={have}-")
    assert not part.exists()


def test_part_that_is_already_whole(server, tmp_path):
    (tmp_path / "x.bin.part").write_bytes(BODY)
    assert download(f"{server.url}/file", tmp_path / "x.bin", HASH).read_bytes() == BODY


def test_server_without_ranges_starts_again(server, tmp_path):
    (tmp_path / "x.bin.part").write_bytes(b"old" * 100)
    assert download(f"{server.url}/norange", tmp_path / "x.bin", HASH).read_bytes() == BODY


def test_wrong_hash_size_and_address(server, tmp_path):
    with pytest.raises(UserError, match="not the expected file"):
        download(f"{server.url}/file", tmp_path / "x.bin", "0" * 64)
    with pytest.raises(UserError, match="expected 5"):
        download(f"{server.url}/file", tmp_path / "x.bin", size=5)
    with pytest.raises(UserError, match="404"):
        download(f"{server.url}/missing", tmp_path / "x.bin")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "x.bin").write_bytes(b"mine")
    with pytest.raises(UserError, match="Remove it and fetch it again"):
        download(f"{server.url}/file", tmp_path / "x.bin", HASH)
    assert (tmp_path / "x.bin").read_bytes() == b"mine"


def kept(folder):
    return sorted(path.name for path in folder.iterdir())


def cut(server, target, tag=None, sha256=None):
    """A download that breaks off."""
    server.tags["/cut"] = tag
    with pytest.raises(UserError, match="run the same command again"):
        download(f"{server.url}/cut", target, sha256)
    return target.with_name(target.name + ".part").stat().st_size


@pytest.mark.parametrize("tag", ['"two"', '"one"', None])
def test_a_file_that_changed_behind_its_address_is_begun_again(server, tmp_path, tag):
    """Its tag says so; or its size, where the server keeps the tag or has none."""
    target, other = tmp_path / "x.bin", bytes(reversed(BODY))[:90_000]
    cut(server, target, '"one"' if tag else None)
    server.files["/cut"], server.tags["/cut"] = other, tag
    assert download(f"{server.url}/cut", target).read_bytes() == other
    assert kept(tmp_path) == ["x.bin"]


@pytest.mark.parametrize("tag", [None, '"one"', 'W/"weak"'])
def test_what_is_known_to_be_the_same_is_continued(server, tmp_path, tag):
    """By its tag, or where the server gives none by its size."""
    target = tmp_path / "x.bin"
    have = cut(server, target, tag)
    for _ in range(10):
        server.tags["/cut"] = tag
        try:
            download(f"{server.url}/cut", target)
            break
        except UserError:
            continue
    assert target.read_bytes() == BODY
    assert (("/cut", f"bytes={have}-")) in server.requests


def test_a_part_of_unknown_origin_is_not_continued_without_a_hash(server, tmp_path):
    (tmp_path / "x.bin.part").write_bytes(b"something else")
    assert download(f"{server.url}/file", tmp_path / "x.bin").read_bytes() == BODY
    assert server.requests == [("/file", None)]


def test_a_kill_while_the_part_is_checked_costs_nothing(server, tmp_path, monkeypatch):
    target = tmp_path / "x.bin"
    with monkeypatch.context() as patched:
        patched.setattr("vlpnb.data.download.content_hash", lambda path: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            download(f"{server.url}/file", target, HASH)
    assert kept(tmp_path) == ["x.bin.part", "x.bin.part.json"]
    assert download(f"{server.url}/file", target, HASH).read_bytes() == BODY
    assert len(server.requests) == 1
    assert kept(tmp_path) == ["x.bin"]


def test_of_two_downloads_of_one_file_one_downloads(server, tmp_path, monkeypatch):
    target, said, started = tmp_path / "x.bin", [], threading.Event()
    hashed = vlpnb.data.download.content_hash

    def slowly(path):
        started.set()
        time.sleep(0.4)
        return hashed(path)

    monkeypatch.setattr("vlpnb.data.download.content_hash", slowly)
    arguments = (f"{server.url}/file", target, HASH, None, None, said.append)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(download, *arguments)
        started.wait()
        second = pool.submit(download, *arguments)
        assert first.result() == second.result() == target
    assert target.read_bytes() == BODY
    assert len(server.requests) == 1
    assert said == [f"{target}: another process works on it; waiting"]
    assert kept(tmp_path) == ["x.bin"]


def test_a_stream_that_does_not_end_is_stopped(server, tmp_path, monkeypatch):
    monkeypatch.setattr("vlpnb.data.download.MOST", 100_000)
    with pytest.raises(UserError, match="more than the expected 100,000 bytes; stopped and removed"):
        download(f"{server.url}/endless", tmp_path / "x.bin")
    assert kept(tmp_path) == []


def test_a_file_that_does_not_fit_is_not_begun(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"x\.bin: cannot be written .*512,000 bytes to come, 1,000 free"):
        download(f"{server.url}/file", tmp_path / "x.bin")
    assert kept(tmp_path) == []


def test_fetch_unpacks_once_and_tries_the_next_address(server, tmp_path, monkeypatch):
    server.files["/x.zip"] = zipped(tmp_path / "x.zip", {"a.txt": "hello"}).read_bytes()
    digest = hashlib.sha256(server.files["/x.zip"]).hexdigest()
    remote = Remote((f"{server.url}/missing", f"{server.url}/x.zip"), "x.zip", digest, unpack=True)
    entry = PublicDataset("tiny", "a test", "none", (remote,), (Expected("a.txt", "a greeting"),))
    monkeypatch.setattr(catalog, "DATASETS", {"tiny": entry})
    lines = []
    for _ in range(2):
        fetch("tiny", tmp_path / "data", lines.append)
    assert check_folder(tmp_path / "data", "tiny") == []
    assert sum("unpacked" in line for line in lines) == 1
    assert len(server.requests) == 2
    (tmp_path / "data/a.txt").write_bytes(b"")
    assert "is empty; it should hold a greeting" in check_folder(tmp_path / "data", "tiny")[0]


def test_catalog_is_sound():
    for entry in DATASETS.values():
        assert entry.what
        assert entry.licence
        assert entry.layout
        assert entry.remotes or entry.note
        for remote in entry.remotes:
            assert remote.sha256 is None or len(remote.sha256) == 64
            assert all(url.startswith(("https://", "http://")) for url in remote.urls)
    with pytest.raises(UserError, match="did you mean 'wikitext103'"):
        fetch("wikitext-103", ".")
    with pytest.raises(UserError, match="cannot be downloaded freely"):
        fetch("flickr8k", ".")


def test_check_folder_in_words(shared_data, tmp_path):
    assert check_folder(shared_data / "flickr8k", "flickr8k") == []
    problems = check_folder(shared_data / "glue", "glue")
    assert len(problems) == 1
    assert "dev_mismatched.tsv is missing; it should hold the valid split of MNLI-MM" in problems[0]
    assert "does not exist" in check_folder(tmp_path / "none", "glue")[0]
    (tmp_path / "images/train2014").mkdir(parents=True)
    problems = check_folder(tmp_path, "coco2014")
    assert any("has 0 pictures, expected at least 82,783" in problem for problem in problems)
    for split in ("training", "validation"):
        (tmp_path / f"{split}.tsv").write_text(f"a ball\t{split}_0\n")
        (tmp_path / f"images/{split}").mkdir()
    (tmp_path / "images/training/training_0").write_bytes(b"x")
    (problem,) = check_folder(tmp_path, "conceptual_captions")
    assert "images/validation has 0 pictures, expected at least 1" in problem
    (tmp_path / "training.tsv").write_text("a ball\thttp://a.example/0\n")
    assert "training.tsv:1: the second column" in check_folder(tmp_path, "conceptual_captions")[0]

"""Stage `picture_vectors`: what a database holds, whatever it is made of, and input that is wrong."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from tests.valm.database import make
from vlpnb.data.description import PictureData
from vlpnb.data.images import open_rgb
from vlpnb.errors import UserError
from vlpnb.foundations.picture_vectors import PICTURE_VECTORS, PictureVectorsConfig, picture_paths
from vlpnb.foundations.tower_pair import load_towers
from vlpnb.retrieval.faiss_index import INDEX, load_index
from vlpnb.retrieval.store import VectorStore
from vlpnb.stage import StageContext


@pytest.fixture(scope="module")
def made(small, tmp_path_factory):
    return make(small, tmp_path_factory.mktemp("database"))


def test_every_picture_that_can_be_read_has_its_vector_and_features(made):
    store, image = VectorStore(made.root / "images"), load_towers(made.towers).image
    assert store.ids == [f"train{i}" for i in range(16) if i != 5]
    assert store.meta.encoder_hash == image.hash
    assert store.meta.dtype == "float16"
    for row, path in enumerate(picture_paths(made.root / "images")):
        assert path.stem == store.ids[row]
        features = image.features(image.pixels(open_rgb(path))[None])
        torch.testing.assert_close(store.gather(np.array([row])), features, atol=2e-3, rtol=2e-3)
        expected = normalize(image.joint(features), dim=1)
        torch.testing.assert_close(store.gather(np.array([row]), "vectors"), expected, atol=2e-3, rtol=2e-3)
    assert store.captions(0) == ("a red picture .", "everything is red here .")
    store.verify()
    assert "train5" in (made.root / "images" / "broken.txt").read_text()


def test_metrics_count_pictures_and_broken_ones(made):
    assert made.images("again") == {"images": 15.0, "broken": 1.0}
    assert made.images("few", skip=3, max_images=4) == {"images": 3.0, "broken": 1.0}
    assert VectorStore(made.root / "few").ids == ["train3", "train4", "train6"]
    assert made.images("both", sets=("valid", "train"))["images"] == 23


def test_pictures_of_any_folder_are_a_database(made):
    metrics = made.images("universe", source="pictures", dtype="float32")
    assert metrics == {"images": 9.0, "broken": 1.0}
    store = VectorStore(made.root / "universe")
    assert store.meta.dtype == "float32"
    assert store.captions(0) == ()
    assert picture_paths(made.root / "universe")[0].is_file()


def test_the_model_may_read_what_is_searched(made):
    made.images("joint", values="vectors")
    store = VectorStore(made.root / "joint")
    assert store.meta.value_width == 0
    assert store.value_width == 8
    assert (store.vectors == VectorStore(made.root / "images").vectors).all()


def test_an_index_is_built_beside_the_vectors(made):
    metrics = made.images("indexed", index="ivf", cells=3)
    store = VectorStore(made.root / "indexed")
    index = load_index(made.root / "indexed" / INDEX, store)
    assert (index.nlist, index.ntotal) == (3, 15)
    assert metrics["index_bytes"] == (made.root / "indexed" / INDEX).stat().st_size


def run(made, folder, towers=None, **fields):
    config = PictureVectorsConfig(**fields)
    inputs = {"towers": towers or made.towers, **made.small.data}
    return made.small.run(PICTURE_VECTORS, config, folder, **inputs)


def test_vectors_of_the_original_are_read_from_parts_and_from_maps(made, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(7, 8)).astype(np.float16)
    parts = tmp_path / "parts"
    parts.mkdir()
    for first, last in ((0, 4), (4, 7)):
        names = [str(100 + i) for i in range(first, last)]
        part = {"image_feats": torch.from_numpy(vectors[first:last]), "image_names": names}
        torch.save(part, parts / f"{first}.pt")
    vectors.tofile(tmp_path / "keys.npy")
    np.arange(100, 107, dtype=np.int64).tofile(tmp_path / "vals.npy")
    run(made, tmp_path / "a", source="original", original={"parts": str(parts)})
    maps = {"keys": str(tmp_path / "keys.npy"), "vals": str(tmp_path / "vals.npy")}
    run(made, tmp_path / "b", source="original", original=maps)
    one, other = VectorStore(tmp_path / "a"), VectorStore(tmp_path / "b")
    assert one.ids == other.ids == [str(100 + i) for i in range(7)]
    assert one.meta.hash == other.meta.hash
    unit = vectors.astype(np.float32) / np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
    np.testing.assert_allclose(np.array(one.vectors, np.float32), unit, atol=1e-3)
    assert (one.values == vectors).all()
    with pytest.raises(UserError, match="came without pictures"):
        picture_paths(tmp_path / "a")
    run(made, tmp_path / "c", source="original", original=maps, skip=2, max_images=3)
    assert VectorStore(tmp_path / "c").ids == ["102", "103", "104"]


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ([1], "expected a mapping"),
        ({"image_feats": torch.zeros(2, 8)}, "image_names"),
        (
            {"image_feats": torch.zeros(2, 9), "image_names": ["a", "b"]},
            r"\[2, 9\]; expected floats \[n, 8\]",
        ),
        ({"image_feats": torch.zeros(2, 8), "image_names": ["a"]}, "no list of 2 texts"),
        ({"image_feats": torch.zeros(2, 8), "image_names": ["a", "b"]}, "vector 0 is zero"),
        ({"image_feats": torch.full((2, 8), torch.nan), "image_names": ["a", "b"]}, "not finite"),
        ({"image_feats": torch.ones(2, 8), "image_names": ["a", "a"]}, "two pictures are called 'a'"),
    ],
)
def test_parts_that_are_wrong_are_named(made, tmp_path, part, says):
    (tmp_path / "parts").mkdir()
    torch.save(part, tmp_path / "parts" / "0.pt")
    with pytest.raises(UserError, match=says):
        run(made, tmp_path / "store", source="original", original={"parts": str(tmp_path / "parts")})


def test_maps_whose_sizes_do_not_fit_are_refused(made, tmp_path):
    np.zeros((3, 8), np.float16).tofile(tmp_path / "keys")
    np.zeros(4, np.int64).tofile(tmp_path / "vals")
    maps = {"keys": str(tmp_path / "keys"), "vals": str(tmp_path / "vals")}
    with pytest.raises(UserError, match="no float16 rows of width 8 with one int64 each"):
        run(made, tmp_path / "store", source="original", original=maps)
    np.save(tmp_path / "keys.npy", np.zeros((4, 8), np.float16))
    with pytest.raises(UserError, match="has a header"):
        run(made, tmp_path / "store", source="original", original=maps | {"keys": str(tmp_path / "keys.npy")})


def test_a_database_without_a_picture_is_refused(made, tmp_path):
    with pytest.raises(UserError, match="no picture is left of 16 after the first 16"):
        run(made, tmp_path / "none", skip=16)
    broken = tmp_path / "pictures"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"nothing")
    (tmp_path / "described").mkdir()
    PictureData(tmp_path, ("./pictures",)).save(tmp_path / "described")
    inputs = {"towers": made.towers, "pictures": tmp_path / "described"}
    context = StageContext(
        PictureVectorsConfig(source="pictures"), tmp_path / "store", inputs, "cpu", say=lambda line: None
    )
    context.folder.mkdir()
    for _ in range(2):  # the second attempt finds no shard of the first
        with pytest.raises(UserError, match="none of the 1 pictures"):
            PICTURE_VECTORS.run(context)
    Image.new("RGB", (20, 20), "red").save(broken / "a.png")
    assert PICTURE_VECTORS.run(context) == {"images": 1.0, "broken": 0.0}


def test_fields_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="belong together"):
        PictureVectorsConfig(source="original")
    with pytest.raises(ValueError, match="either parts, or both"):
        PictureVectorsConfig(source="original", original={"keys": "/a"})


def test_a_kill_after_any_shard_changes_nothing(made, tmp_path, monkeypatch):
    """The pictures tower dies in the third unit; the next attempt makes what is left."""
    from vlpnb.foundations import tower_pair

    real, calls = tower_pair.ImageTower.features, []

    def dies(self, pixels):
        calls.append(len(pixels))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(self, pixels)

    monkeypatch.setattr(tower_pair.ImageTower, "features", dies)
    with pytest.raises(KeyboardInterrupt):
        run(made, tmp_path / "store", shard=4, batch=3)
    assert len(list((tmp_path / "store" / "checkpoint-images").iterdir())) == 2
    run(made, tmp_path / "store", shard=4, batch=3)
    assert sorted(path.name for path in (tmp_path / "store").iterdir() if path.suffix != ".txt") == sorted(
        path.name for path in (made.root / "images").iterdir() if path.suffix != ".txt"
    )
    for name in ("images.hdf5", "images.ids", "images.json", "images.captions"):
        assert (tmp_path / "store" / name).read_bytes() == (made.root / "images" / name).read_bytes()
    about = json.loads((tmp_path / "store" / "images.json").read_text())
    assert about["count"] == 15

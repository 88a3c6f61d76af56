"""Whole splits and sets that cannot be used: pictures that are all broken, names that lead elsewhere."""

import json

import numpy as np
import pytest
from PIL import Image
from torch import nn

from vlpnb.data.captions import CaptionedImage, read_captions
from vlpnb.data.description import PictureData
from vlpnb.data.images import readable
from vlpnb.errors import UserError
from vlpnb.foundations.features import FeaturesConfig, cache_split
from vlpnb.text.backbones import LanguageBackbone
from vlpnb.text.tokenizers import train_wordpiece
from vlpnb.vision.backbones import Backbone, remove_classifier
from vlpnb.vision.small import SmallResNet


class Embeds(nn.Module):
    """A language model of one layer: its embeddings."""

    def __init__(self, rows: int):
        super().__init__()
        self.table = nn.Embedding(rows, 4)

    def forward(self, ids, mask=None, hidden_states=False):
        return type("Out", (), {"hidden_states": (self.table(ids),)})


@pytest.fixture
def backbones(tmp_path):
    tokenizer = train_wordpiece(["a dog runs ."], 40, tmp_path / "words")
    net = SmallResNet((4, 4, 8), 3)
    vision = Backbone(net, remove_classifier(net), 16).eval()
    return LanguageBackbone(Embeds(len(tokenizer)), tokenizer, [-1], 4), vision


def broken(folder, count=3):
    folder.mkdir()
    images = [CaptionedImage(f"{i}", folder / f"{i}.jpg", ("a dog runs .",)) for i in range(count)]
    for image in images:
        image.path.write_bytes(b"\xff\xd8\xff broken")
    return images


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_features_of_a_split_without_a_readable_picture(backbones, tmp_path, split):
    images = broken(tmp_path / "pictures")
    folder = tmp_path / "features"
    folder.mkdir()
    for _ in range(2):
        with pytest.raises(
            UserError, match=rf"none of the 3 pictures of split '{split}' can be read: .*0\.jpg \(cannot"
        ):
            cache_split(folder, split, images, *backbones, FeaturesConfig())
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(images[1].path)
    counts = cache_split(folder, split, images, *backbones, FeaturesConfig())
    assert counts == {"images": 1, "captions": 1, "broken": 2}


def test_a_matcher_that_trains_its_vision_needs_a_readable_picture(tmp_path):
    with pytest.raises(UserError, match="none of the 3 pictures of a split can be read"):
        readable(broken(tmp_path / "pictures"), lambda image: image.path, "a split", lambda line: None)


@pytest.fixture
def root(tmp_path):
    for name in ("a/1.png", "a/deep/1.png", "b/1.png"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    return tmp_path


def test_pictures_of_one_name_in_two_folders_are_two_vokens(root):
    said = []
    (found,) = PictureData(root, ("./pictures",)).sets(said.append).values()
    assert [image.image_id for image in found] == ["a/1", "a/deep/1", "b/1"]
    assert said == [f"{root / 'pictures'}: 3 taken; left out: nothing"]


@pytest.mark.parametrize("name", ["../../out", "a/b", "<script>", ".hidden", "a\nb"])
def test_the_name_of_an_image_set_stays_in_its_folder(root, name):
    """It names the files of the keys, and stands on pages."""
    with pytest.raises(UserError, match=r"pictures\.sets: .*the image set is called .*expected letters"):
        PictureData(root, (f"{name}=./pictures",)).sets()


@pytest.mark.parametrize("line", ["../../../etc/passwd", "/etc/passwd", "a\u2028b"])
def test_a_list_of_pictures_does_not_lead_out_of_the_data(root, line):
    (root / "vg.ids").write_text(f"1\n{line}\n")
    with pytest.raises(UserError, match=r"vg\.ids.*(outside the folder|on one line)"):
        PictureData(root, ("vg.ids",)).sets()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("line\nbreak.jpg", "expected a name or id on one line"),
        ("../1.jpg", "outside the folder"),
        ("/etc/1.jpg", "outside the folder"),
        (".", "or is none"),
        ("", "expected a name or id on one line"),
    ],
)
@pytest.mark.parametrize("kind", ["coco", "karpathy", "lxmert"])
def test_the_name_of_a_picture_is_one_line_inside_the_folder(tmp_path, kind, name, message):
    content = {
        "coco": {"images": [{"id": 1, "file_name": name}], "annotations": [{"image_id": 1, "caption": "x"}]},
        "karpathy": {"images": [{"filename": name, "split": "train", "sentences": [{"raw": "x"}]}]},
        "lxmert": [{"img_id": name, "sentf": {"vg": ["x"]}}],
    }[kind]
    path = tmp_path / "c.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"c\.json.*{message}"):
        read_captions(kind, path, tmp_path)

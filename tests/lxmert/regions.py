"""A region store in memory and a small world of sentences, for tests that need no stage."""

from dataclasses import dataclass

import numpy as np
import torch

from vlpnb.errors import UserError

COLOURS = ("red", "green", "blue", "white", "black")
KINDS = ("cat", "dog", "car", "cup")


@dataclass
class Image:
    image_id: str
    sentences: dict
    labels: dict


@dataclass
class Found:
    features: torch.Tensor
    boxes: torch.Tensor
    mask: torch.Tensor | None
    object_ids: torch.Tensor
    object_conf: torch.Tensor
    attribute_ids: torch.Tensor
    attribute_conf: torch.Tensor


class MemoryStore:
    """Pictures with 1 to `most` regions; region r of picture p has the features p + r/100 (first) and noise."""

    def __init__(self, pictures: int = 12, most: int = 4, width: int = 6, seed: int = 0, same: bool = False):
        random = np.random.default_rng(seed)
        self.ids = [f"p{i}" for i in range(pictures)]
        self.feature_width, self.objects, self.attributes = width, KINDS, COLOURS
        self.n = np.full(pictures, most) if same else 1 + np.arange(pictures) % most
        self.features = [random.random((n, width), dtype=np.float32) for n in self.n]
        for picture, rows in enumerate(self.features):
            rows[:, 0] = picture + np.arange(len(rows)) / 100
        self.boxes = [np.sort(random.random((n, 4), dtype=np.float32), axis=1) for n in self.n]
        self.kinds = [random.integers(-1, len(KINDS), n) for n in self.n]
        self.colours = [random.integers(-1, len(COLOURS), n) for n in self.n]

    def __len__(self):
        return len(self.ids)

    def __contains__(self, image_id):
        return image_id in self.ids

    def rows(self, image_ids):
        unknown = [name for name in image_ids if name not in self.ids]
        if unknown:
            raise UserError(f"{len(unknown)} pictures have no regions: {unknown[:3]}")
        return np.array([self.ids.index(name) for name in image_ids], np.int64)

    def counts(self, rows):
        return self.n[rows]

    def batch(self, rows):
        width = int(self.n[rows].max(initial=0))

        def padded(values, fill, dtype):
            shape = (len(rows), width, *np.shape(values[0])[1:])
            made = np.full(shape, fill, dtype)
            for i, row in enumerate(rows):
                made[i, : self.n[row]] = values[row]
            return torch.from_numpy(made)

        mask = torch.from_numpy(np.arange(width) < self.n[rows][:, None])
        sure = padded([np.full(n, 0.5) for n in self.n], 0, np.float32)
        return Found(
            padded(self.features, 0, np.float32), padded(self.boxes, 0, np.float32), None if mask.all() else mask,
            padded(self.kinds, -1, np.int64), sure, padded(self.colours, -1, np.int64), sure,
        )  # fmt: skip

    def features_of(self, rows, boxes):
        return torch.from_numpy(
            np.stack([self.features[row][box] for row, box in zip(rows, boxes, strict=True)])
        )


ANSWERS = ("yes", "no", "2", *COLOURS)


def prune(labels):
    return {ANSWERS.index(answer): score for answer, score in labels.items() if answer in ANSWERS}


def images(store, captions: int = 2) -> list[Image]:
    """Captions and two questions for each picture."""
    found = []
    for i, name in enumerate(store.ids):
        colour, kind = COLOURS[i % 5], KINDS[i % 4]
        said = tuple(
            f"a {colour} {kind} is here ." if j % 2 else f"the {kind} is {colour}" for j in range(captions)
        )
        questions = (f"is the {kind} {colour} ?", f"what is {colour} ?")
        labels = ({"yes": 1.0, "no": 0.3}, {kind: 1.0})  # kinds are not in the table
        found.append(Image(name, {"mscoco": said, "vqa": questions}, {"vqa": labels}))
    return found

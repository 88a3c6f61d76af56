"""A second implementation of what CCLM does with pictures, and recorded folders of any size made with it.

Nothing of it is shared with the package: the Swin attends over all positions at once under a dense mask, tables are
resampled one axis after the other, and geometry goes patch by patch.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.interpolate import make_interp_spline
from torch import Tensor
from torch.nn import functional as F

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
CELL = 32  # pixels of a patch


def new_swin(
    seed: int, embed: int, depths: tuple[int, ...], heads: tuple[int, ...], window: int, image_size: int
) -> dict[str, Tensor]:
    """Random weights under the public project's names; tables of stages smaller than the window are smaller."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}

    def put(name: str, *shape: int, about: float = 0.0) -> None:
        scale = 0.2 if len(shape) == 1 else 1.2 / math.sqrt(math.prod(shape[1:]))
        weights[name] = about + scale * torch.randn(*shape, generator=generator)

    def linear(name: str, outputs: int, inputs: int, bias: bool = True) -> None:
        put(f"{name}.weight", outputs, inputs)
        if bias:
            put(f"{name}.bias", outputs)

    def norm(name: str, width: int) -> None:
        put(f"{name}.weight", width, about=1.0)
        put(f"{name}.bias", width)

    put("patch_embed.proj.weight", embed, 3, 4, 4)
    put("patch_embed.proj.bias", embed)
    norm("patch_embed.norm", embed)
    for stage, (depth, head) in enumerate(zip(depths, heads, strict=True)):
        width, side = embed * 2**stage, min(window, image_size // (4 * 2**stage))
        for block in range(depth):
            at = f"layers.{stage}.blocks.{block}"
            norm(f"{at}.norm1", width)
            norm(f"{at}.norm2", width)
            linear(f"{at}.attn.qkv", 3 * width, width)
            linear(f"{at}.attn.proj", width, width)
            weights[f"{at}.attn.relative_position_bias_table"] = torch.randn(
                (2 * side - 1) ** 2, head, generator=generator
            )
            linear(f"{at}.mlp.fc1", 4 * width, width)
            linear(f"{at}.mlp.fc2", width, 4 * width)
        if stage + 1 < len(depths):
            norm(f"layers.{stage}.downsample.norm", 4 * width)
            linear(f"layers.{stage}.downsample.reduction", 2 * width, 4 * width, bias=False)
    norm("norm", embed * 2 ** (len(depths) - 1))
    return weights


def swin_views(weights: dict[str, Tensor], pixels: Tensor, window: int) -> Tensor:
    """The mean of the patches, then the patches row by row."""

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    x = F.conv2d(pixels, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=4)
    x = norm(x.permute(0, 2, 3, 1), "patch_embed.norm")
    stage = 0
    while f"layers.{stage}.blocks.0.norm1.weight" in weights:
        block = 0
        while f"layers.{stage}.blocks.{block}.norm1.weight" in weights:
            at, side = f"layers.{stage}.blocks.{block}", x.shape[1]
            table = weights[f"{at}.attn.relative_position_bias_table"]
            inside = min(window, side)
            shift = window // 2 if block % 2 and inside < side else 0
            bias = dense_bias(table, side, inside, shift)  # (H, N, N)
            batch, heads, width = len(x), table.shape[1], x.shape[-1]
            parts = linear(norm(x, f"{at}.norm1").flatten(1, 2), f"{at}.attn.qkv")
            query, key, value = parts.reshape(batch, side * side, 3, heads, -1).permute(2, 0, 3, 1, 4)
            scores = query @ key.mT * (width // heads) ** -0.5 + bias
            mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, side, side, width)
            x = x + linear(mixed, f"{at}.attn.proj")
            x = x + linear(F.gelu(linear(norm(x, f"{at}.norm2"), f"{at}.mlp.fc1")), f"{at}.mlp.fc2")
            block += 1
        if f"layers.{stage}.downsample.reduction.weight" in weights:
            corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
            x = norm(torch.cat(corners, -1), f"layers.{stage}.downsample.norm")
            x = linear(x, f"layers.{stage}.downsample.reduction")
        stage += 1
    patches = norm(x, "norm").flatten(1, 2)
    return torch.cat([patches.mean(1, keepdim=True), patches], 1)


def dense_bias(table: Tensor, side: int, window: int, shift: int) -> Tensor:
    """The bias of every pair of positions of a map, −∞ for pairs that are not in one window."""
    places = [((r - shift) % side, (c - shift) % side) for r in range(side) for c in range(side)]
    wrapped = [(r >= side - shift, c >= side - shift) if shift else (False, False) for r, c in places]
    bias = torch.full((table.shape[1], side * side, side * side), float("-inf"))
    for i, (r, c) in enumerate(places):
        for j, (r2, c2) in enumerate(places):
            same = (r // window, c // window) == (r2 // window, c2 // window)
            if same and wrapped[i] == wrapped[j]:
                bias[:, i, j] = table[(r - r2 + window - 1) * (2 * window - 1) + c - c2 + window - 1]
    return bias


def resampled(table: Tensor, window: int) -> tuple[Tensor, float, list[float]]:
    """A table for another window, with the ratio and the grid that it came from."""
    source, target = math.isqrt(len(table)), 2 * window - 1
    low, high, ratio = 1.01, 1.5, 1.01
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if sum(ratio**i for i in range(source // 2)) > target // 2:
            high = ratio
        else:
            low = ratio
    outward, total = [], 0.0
    for i in range(source // 2):
        total += ratio**i
        outward.append(total)
    grid = [-x for x in reversed(outward)] + [0.0, *outward]
    wanted = np.clip(np.arange(target) - target // 2, grid[0], grid[-1])
    values = table.double().numpy().reshape(source, source, -1)
    for axis in (0, 1):
        values = make_interp_spline(grid, values, k=3, axis=axis)(wanted)
    return torch.from_numpy(values.reshape(target * target, -1)).float(), ratio, grid


def normalised(images: Tensor) -> Tensor:
    """Pixels of pictures (uint8, channels before rows)."""
    return (images.float() / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def record_swin(folder: Path, seed: int) -> None:
    """`swin.safetensors` and `.json`: two networks, two tables, one test picture."""
    tensors: dict[str, Tensor] = {}
    about: dict[str, dict] = {}
    sizes = {"shifted": ((2, 2), (1, 3), 3, 48, 6), "clipped_window": ((2, 1, 2), (2, 2, 4), 4, 32, 8)}
    for number, (name, (depths, heads, window, size, embed)) in enumerate(sizes.items()):
        weights = new_swin(seed + number, embed, depths, heads, window, size)
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(256, (2, 3, size, size), generator=generator, dtype=torch.uint8)
        tensors |= {f"{name}.weights.{key}": value for key, value in weights.items()}
        tensors |= {
            f"{name}.image_u8": images,
            f"{name}.out": swin_views(weights, normalised(images), window),
        }
        about[name] = {
            "image_res": size, "embed_dim": embed, "depths": depths, "num_heads": heads, "window_size": window,
            "torchvision_max_abs_difference_patches": 0.0,
        }  # fmt: skip
    for source, target in ((4, 6), (6, 5)):
        generator = torch.Generator().manual_seed(seed + source)
        table = torch.randn((2 * source - 1) ** 2, 3, generator=generator)
        found, ratio, grid = resampled(table, target)
        name = f"resample.{source}_{target}"
        tensors |= {f"{name}.source": table, f"{name}.target": found}
        about[name] = {"q": ratio, "source_grid": grid}
    generator = torch.Generator().manual_seed(seed)
    picture = torch.randint(256, (37, 51, 3), generator=generator, dtype=torch.uint8)
    view = np.asarray(Image.fromarray(picture.numpy()).resize((24, 24), Image.Resampling.BICUBIC))
    tensors["test_transform.image_u8_hwc"] = picture
    tensors["test_transform.pixels_24"] = normalised(torch.from_numpy(view.copy()).permute(2, 0, 1))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "swin.safetensors")
    (folder / "swin.json").write_text(json.dumps(about))


def visible(box: list[float], size: int) -> list[int]:
    """Numbers of the patches that a box (x, y, w, h) in pixels sees, row by row."""
    grid = size // CELL
    spans = []
    for start, extent in ((box[0], box[2]), (box[1], box[3])):
        first = min(int(start // CELL), grid - 1)
        spans.append(range(first, min(max(math.ceil((start + extent) / CELL), first + 1), grid)))
    return [
        row * grid + column
        for row in range(grid)
        for column in range(grid)
        if row in spans[1] and column in spans[0]
    ]


def record_geometry(folder: Path, seed: int) -> None:
    """`region_geometry.json`: random boxes, and random crops of random elements."""
    rng = np.random.default_rng(seed)
    masks = []
    for size in (224, 384, 96):
        for _ in range(6):
            x, y = (float(v) for v in rng.uniform(0, size, 2).round(2))
            w, h = (float(v) for v in rng.uniform(0.1, size, 2).round(2))
            masks.append(
                {"image_res": size, "patches_per_side": size // CELL, "box_xywh": [x, y, w, h], "cls": 1,
                 "visible_patches_0based_row_major": visible([x, y, w, h], size)}
            )  # fmt: skip
    samples = [_sample(rng, size) for size in (224, 96, 384, 224)]
    text = json.dumps({"patch_masks": masks, "region_samples": samples})
    (folder / "region_geometry.json").write_text(text)


def _sample(rng: np.random.Generator, size: int) -> dict:
    width, height = (int(v) for v in rng.integers(80, 300, 2))
    elements = []
    for number in range(int(rng.integers(1, 9))):
        x, y = int(rng.integers(0, width - 10)), int(rng.integers(0, height - 10))
        box = [x, y, int(rng.integers(5, width - x + 1)), int(rng.integers(5, height - y + 1))]
        elements.append({"bb": box, "caption": {"de": f"Ding {number}"}})
    x, y, w, h = elements[0]["bb"]
    crop = [int(rng.integers(0, x + 1)), int(rng.integers(0, y + 1))]
    crop += [int(rng.integers(x + w, width + 1)), int(rng.integers(y + h, height + 1))]
    flip, order = bool(rng.random() < 0.5), [int(i) for i in rng.permutation(len(elements))]
    whole = {"de": "alles"} if rng.random() < 0.5 else None
    grid = size // CELL
    found = [("alles", 1, [0.5, 0.5, 1.0, 1.0], [*range(grid * grid)])] if whole else []
    for element in order:
        x, y, w, h = elements[element]["bb"]
        left, right = max(x, crop[0]) - crop[0], min(x + w, crop[2]) - crop[0]
        top, bottom = max(y, crop[1]) - crop[1], min(y + h, crop[3]) - crop[1]
        if (
            right <= left
            or bottom <= top
            or (right - left) * (bottom - top) <= 0.5 * w * h
            or len(found) == 5
        ):
            continue
        wide, high = crop[2] - crop[0], crop[3] - crop[1]
        left, right = (wide - right, wide - left) if flip else (left, right)
        box = [
            (left + right) / 2 / wide,
            (top + bottom) / 2 / high,
            (right - left) / wide,
            (bottom - top) / high,
        ]
        shown = [
            left * size / wide,
            top * size / high,
            (right - left) * size / wide,
            (bottom - top) * size / high,
        ]
        found.append((elements[element]["caption"]["de"], 0, box, visible(shown, size)))
    texts, whole_ones, boxes, patches = ([entry[i] for entry in found] for i in range(4))
    return {
        "image_size": [width, height], "elements": elements, "whole_image_caption": whole, "crop_x0y0x1y1": crop,
        "flip": flip, "image_res": size, "element_order": order, "texts": texts, "is_image": whole_ones,
        "targets_cxcywh": boxes, "visible_patches": patches,
    }  # fmt: skip


def masked_views(views: Tensor, group: Tensor, patch_mask: Tensor) -> Tensor:
    """The mean of the patches that each text may see, then all patches of its picture."""
    rows = []
    for picture, mask in zip(group.tolist(), patch_mask.bool(), strict=True):
        patches = views[picture, 1:]
        rows.append(torch.cat([patches[mask[1:]].mean(0, keepdim=True), patches]))
    return torch.stack(rows)


def plain_giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised intersection over union of boxes (cx, cy, w, h), one pair after the other."""
    found = []
    for one, other in zip(a.tolist(), b.tolist(), strict=True):
        lows = [[box[i] - box[i + 2] / 2 for box in (one, other)] for i in (0, 1)]
        highs = [[box[i] + box[i + 2] / 2 for box in (one, other)] for i in (0, 1)]
        inner = math.prod(max(0.0, min(highs[i]) - max(lows[i])) for i in (0, 1))
        hull = math.prod(max(highs[i]) - min(lows[i]) for i in (0, 1))
        union = one[2] * one[3] + other[2] * other[3] - inner
        found.append(inner / union - (hull - union) / hull)
    return torch.tensor(found)

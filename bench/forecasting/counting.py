"""Counts what a training step does: products, bytes moved, kernels and peak memory, layer by layer.

The engine's own step runs once on torch's meta device, whose tensors have shapes but no numbers, so that any backward
strategy is counted without time or memory for it. Whatever the step copies to the CPU is replaced by ones: equal losses
and gradients, which every weighting accepts.
"""

from __future__ import annotations

import re
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

from bench.engine.build import build_network
from bench.engine.evaluate import EVALUATION_BATCH
from bench.engine.step import train_step
from bench.engine.train_state import make_train_state
from bench.profiling.workloads import Workload
from bench.spec.resolve import RunSpec
from bench.spec.settings import Precision
from datasets.contract import Batch, Group
from methods.contract import Network, batches_of

META = torch.device("meta")
# What belongs to no layer: the optimizer's step; losses, sums of features, task gradients and their products.
OPTIMIZER, ELSEWHERE = "optimizer", "everything else"

_aten = torch.ops.aten
# Operations that only make or describe a tensor, and launch nothing.
_FREE = {
    _aten.detach.default,
    _aten.empty.memory_format,
    _aten.empty_strided.default,
    _aten.empty_like.default,
    _aten.new_empty.default,
    _aten.new_empty_strided.default,
    _aten.lift_fresh.default,
    _aten._unsafe_view.default,
    _aten._reshape_alias.default,
}
# Operations whose shapes torch finds slowly, in Python.
_SLOW = {
    _aten.native_batch_norm_backward.default,
    _aten.native_group_norm_backward.default,
    _aten.threshold_backward.default,
}


@dataclass(frozen=True)
class _Form:
    """All that the meta device knows of a tensor."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Kernel:
    """An operation as it is launched once.

    layer: the layer that it belongs to, forward or backward; OPTIMIZER or ELSEWHERE for others.
    operation: torch's name.
    bf16: whether its operands are bfloat16.
    flops: multiplications and additions of its products; 0 if it has none.
    bytes: of the tensors that it reads and writes, each once.
    """

    layer: str
    operation: str
    bf16: bool
    flops: int
    bytes: int


@dataclass(frozen=True)
class Counts:
    """What one step or one forward pass does.

    kernels: how often each is launched; a mean over steps may be a fraction.
    peak_bytes: of all tensors that exist at the same time.
    """

    kernels: Mapping[Kernel, float]
    peak_bytes: int

    @property
    def flops(self) -> float:
        return sum(times * kernel.flops for kernel, times in self.kernels.items())

    @property
    def bytes(self) -> float:
        return sum(times * kernel.bytes for kernel, times in self.kernels.items())

    @property
    def launches(self) -> float:
        return sum(self.kernels.values())


def count_step(spec: RunSpec, image_size: tuple[int, int]) -> Counts:
    """The mean over steps that compute weights or cosines and steps that reuse cached weights.

    Raises:
        RuntimeError: a step depends on numbers, which the meta device doesn't have.
    """
    settings = spec.settings
    every = max(settings.gramian.every, settings.train.cosines_every, 1)
    spec, kinds = _countable(spec), 1 if every == 1 else 2
    batch = _batch(spec, image_size, settings.train.batch_size // settings.compute.processes)
    others = [batch] * (batches_of(settings.weighting) - 1)
    by_kind = []
    with _Counter() as counter:
        state = make_train_state(spec, build_network(spec, META))
        state.optimizers["network"] = _CountedAdam(state.optimizers["network"])
        with _autocast(settings.compute.precision), _layers(state.network, counter):
            for kind in range(kinds):  # step 0 computes weights, step 1 reuses them
                counter.kernels = Counter()
                cosines = settings.train.cosines_every > 0 and kind == 0
                train_step(state, batch, kind, 0, others=others, cosines=cosines)
                by_kind.append(counter.kernels)
    shares = [1.0] if kinds == 1 else [1 / every, 1 - 1 / every]
    kernels: dict[Kernel, float] = {}
    for share, found in zip(shares, by_kind, strict=True):
        for kernel, times in found.items():
            kernels[kernel] = kernels.get(kernel, 0.0) + share * times
    return Counts(kernels, counter.peak_bytes)


def count_evaluation(spec: RunSpec, image_size: tuple[int, int]) -> Counts:
    """One evaluation batch of one source: encoder and heads, without metrics.

    Raises:
        RuntimeError: as `count_step`.
    """
    spec = _countable(spec)
    with _Counter() as counter:
        network = build_network(spec, META).eval()
        group = _batch(spec, image_size, EVALUATION_BATCH)[0]
        with torch.no_grad(), _layers(network, counter):
            counter.kernels = Counter()
            readers = list(group.targets)
            for task, features in zip(readers, network.features(group.inputs, readers), strict=True):
                network.heads[task](features.z)
    return Counts(counter.kernels, counter.peak_bytes)


def _countable(spec: RunSpec) -> RunSpec:
    """The same run without what needs numbers or a real device; `_autocast` stands for bf16."""
    settings = spec.settings
    return replace(
        spec,
        settings=replace(
            settings,
            backbone=replace(settings.backbone, weights="none"),
            compute=replace(settings.compute, compile=False, cuda_graphs=False, precision="fp32"),
        ),
    )


def _batch(spec: RunSpec, image_size: tuple[int, int], size: int) -> Batch:
    """A batch without numbers, of the shapes and types of a training batch."""
    chosen = {"data.tasks": spec.settings.data.tasks}
    groups = Workload("count", "", spec.data, 1, image_size, len(spec.tasks), chosen).noise(torch.device("cpu"))

    def shaped(one: Tensor) -> Tensor:
        return torch.empty((size, *one.shape[1:]), dtype=one.dtype, device=META)

    return [Group(shaped(g.inputs), {task: shaped(target) for task, target in g.targets.items()}) for g in groups]


class _Counter(TorchDispatchMode):
    """Records what is done with tensors on the meta device, and answers reads of them with ones.

    kernels: launched since it was last emptied.
    layer: the layer that runs forward; "" outside of all.
    peak_bytes: most bytes of tensors at the same time, since the counter was entered.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels: Counter[Kernel] = Counter()
        self.layer = ""
        self.peak_bytes = 0
        self._bytes = 0
        self._forms: dict[Any, Any] = {}
        self._storages: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False  # which only a machine with an accelerator can do
        first = args[0] if args else None
        if isinstance(first, Tensor):
            if func is _aten._pin_memory.default:
                return first
            if first.is_meta and func is _aten._local_scalar_dense.default:
                return torch.ones((), dtype=first.dtype).item()
            if first.is_meta and func is _aten._to_copy.default and _is_cpu(kwargs.get("device")):
                self._record(func, args, kwargs, None)
                return torch.ones(first.shape, dtype=kwargs.get("dtype") or first.dtype)
        result = self._computed(func, args, kwargs)
        self._hold(result)
        if not (func.is_view or func in _FREE):
            self._record(func, args, kwargs, result)
        return result

    def _computed(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The result of an operation. Backward passes repeat the slow ones, so that their shapes are kept."""
        if func not in _SLOW:
            return func(*args, **kwargs)
        leaves, structure = tree_flatten((args, dict(kwargs)))
        key = (func, structure, *(_form(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves))
        if key not in self._forms:
            result = func(*args, **kwargs)
            self._forms[key] = tree_map(lambda one: None if one is None else _form(one), result)
            return result
        return tree_map(_shaped, self._forms[key], is_leaf=lambda one: one is None or isinstance(one, _Form))

    def _record(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        targets = [kwargs[a.name] for a in func._schema.arguments if a.is_out and a.name in kwargs]
        read = _on_meta((args, {name: value for name, value in kwargs.items() if all(value is not t for t in targets)}))
        written = _on_meta(result)
        if not read and not written:
            return
        formula = flop_registry.get(func.overloadpacket)
        kernel = Kernel(
            layer=self._current_layer(func),
            operation=func.overloadpacket.__name__,
            bf16=any(tensor.dtype == torch.bfloat16 for tensor in read),
            flops=0 if formula is None else int(formula(*args, **kwargs, out_val=result)),
            bytes=sum(map(_bytes, read)) + sum(map(_bytes, written)),
        )
        self.kernels[kernel] += 1

    def _current_layer(self, func: Any) -> str:
        if func is _aten._fused_adam_.default:
            return OPTIMIZER
        node: Any = torch._C._current_autograd_node()
        return (self.layer if node is None else node.metadata.get(_LAYER)) or ELSEWHERE

    def _hold(self, result: Any) -> None:
        """Counts new storages until they are freed."""
        for tensor in _on_meta(result):
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key in self._storages:
                continue

            def free(_: object, key: int = key, size: int = size) -> None:
                self._bytes -= size
                del self._storages[key]

            self._storages[key] = weakref.ref(storage, free)
            self._bytes += size
            self.peak_bytes = max(self.peak_bytes, self._bytes)


def _form(tensor: Tensor) -> _Form:
    return _Form(tuple(tensor.shape), tensor.stride(), tensor.dtype)


def _shaped(form: _Form | None) -> Tensor | None:
    return None if form is None else torch.empty_strided(form.shape, form.strides, dtype=form.dtype, device=META)


def _is_cpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cpu"


def _on_meta(tree: Any) -> list[Tensor]:
    """All tensors on the meta device in nested lists, tuples and dicts, each once."""
    found = (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.is_meta)
    return list({id(tensor): tensor for tensor in found}.values())


def _bytes(tensor: Tensor) -> int:
    """What reading or writing it moves; an expanded tensor is smaller than its shape says."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


_LAYER = "layer"  # the key of a node's layer, in its metadata


@contextmanager
def _layers(network: Network, counter: _Counter) -> Iterator[None]:
    """Tells the counter which layer runs, forward and, by the nodes of the graph, backward."""
    assert isinstance(network, nn.Module)
    stops: list[set[Any]] = []

    def before(name: str, inputs: Any) -> None:
        counter.layer = name
        stops.append({tensor.grad_fn for tensor in tree_leaves(inputs) if isinstance(tensor, Tensor)})

    def after(name: str, output: Any) -> None:
        counter.layer = ""
        known = stops.pop()
        nodes: list[Any] = [tensor.grad_fn for tensor in tree_leaves(output) if isinstance(tensor, Tensor)]
        while nodes:
            node = nodes.pop()
            if node is not None and node not in known:
                known.add(node)
                node.metadata[_LAYER] = name
                nodes += [following for following, _ in node.next_functions]

    hooks = []
    for path, module in network.named_modules():
        if not any(True for _ in module.children()):
            name = re.sub(r"^heads\.\d+", "heads.*", path)
            hooks.append(module.register_forward_pre_hook(lambda _, inputs, name=name: before(name, inputs)))
            hooks.append(module.register_forward_hook(lambda _, inputs, output, name=name: after(name, output)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _CountedAdam(Optimizer):
    """A step of torch's fused Adam as one operation on the meta device, where torch.optim refuses to fuse."""

    def __init__(self, adam: Optimizer) -> None:
        super().__init__(adam.param_groups, adam.defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state.update(mean=torch.empty_like(parameter), square=torch.empty_like(parameter))
        torch._fused_adam_(
            parameters,
            [p.grad for p in parameters],
            [self.state[p]["mean"] for p in parameters],
            [self.state[p]["square"] for p in parameters],
            [],
            [torch.empty((), device=META) for _ in parameters],
            lr=1.0, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip


class _Autocast(TorchFunctionMode):
    """What torch.autocast does with bf16 to layers; it doesn't know the meta device."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        dtype = {**dict.fromkeys(_IN_BF16, torch.bfloat16), **dict.fromkeys(_IN_FP32, torch.float32)}.get(func)
        kwargs = kwargs or {}
        if dtype is not None:
            args = tuple(_cast(value, dtype) for value in args)
            kwargs = {name: _cast(value, dtype) for name, value in kwargs.items()}
        return func(*args, **kwargs)


_IN_BF16 = (functional.conv2d, functional.linear)
_IN_FP32 = (functional.group_norm, functional.cross_entropy, functional.binary_cross_entropy_with_logits)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


@contextmanager
def _autocast(precision: Precision) -> Iterator[None]:
    if precision == "fp32":
        yield
    else:
        with _Autocast():
            yield

"""Tensors of the pretend device: each holds a tensor on the CPU, and every operation comes through the dispatcher."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import return_and_correct_aliasing

from pretend.counts import lines_of_ours, record_copy, record_operation, record_wait
from pretend.in_flight import fetch, send
from pretend.memory import is_pinned, pin, track
from pretend.names import CPU, DEVICE
from pretend.random_numbers import default_stream, require_own
from pretend.waiting import allows_indices_on_cpu, allows_scalars_on_cpu, waits_for

aten = torch.ops.aten
# They ask, or allocate: nothing runs on the device.
_WITHOUT_WORK = frozenset(
    {aten.is_pinned, aten.empty, aten.empty_strided, aten.empty_like, aten.new_empty, aten._local_scalar_dense}
)
# The counts and step sizes of optimizers and schedules may be on the CPU.
_SCALARS_BY_NAME = frozenset({"lr"})
_REDUCED = frozenset({torch.bfloat16, torch.float16})


class PretendTensor(Tensor):
    """A tensor of the device.

    inner: the tensor on the CPU that holds its values; its shape and strides are those of this one.
    """

    inner: Tensor
    # Methods are not intercepted by name: what they do comes as operations.
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> PretendTensor:
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=DEVICE,
        )
        made.inner = inner
        track(inner)
        return made

    @classmethod
    def __torch_dispatch__(cls, func: OpOverload, types: Sequence[type], args: Any = (), kwargs: Any = None) -> Any:
        del types
        return _dispatch(func, args, kwargs or {})

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        """Tells torch that `Module.to` has to exchange parameters as wholes."""
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(parts: Mapping[str, Tensor], context: None, size: Any, stride: Any) -> PretendTensor:
        del context, size, stride
        return PretendTensor(parts["inner"])

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.inner = value.inner  # type: ignore[attr-defined]

    def tolist(self) -> Any:
        """torch refuses this method for all subclasses, so it copies first; the copy is counted."""
        return self.cpu().tolist() if self.dim() else self.item()

    def numpy(self, *, force: bool = False) -> Any:
        """Refused in the words in which torch refuses it on an accelerator; with force=True, copied."""
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            f"can't convert {DEVICE} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory "
            "first."
        )

    def __reduce_ex__(self, protocol: int) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        """As torch saves tensors of devices without storages: it copies to the CPU."""
        values = (self.detach().cpu(), self.dtype, str(self.device), self.requires_grad)
        return torch._utils._rebuild_device_tensor_from_cpu_tensor, values

    def __str__(self) -> str:
        """With values, which are copied; the copy is counted."""
        return str(self.detach().cpu())

    def __format__(self, form: str) -> str:
        """torch reads a tensor () for an f-string; the wait is counted."""
        return format(self.item() if self.dim() == 0 else str(self), form)

    def __repr__(self, **settings: Any) -> str:
        """Without values: debuggers show it, and reading them would count."""
        return f"PretendTensor(shape={tuple(self.shape)}, dtype={self.dtype})"


@dataclass(frozen=True)
class _Traits:
    """What is known of an operation.

    aliases: whether a result may share memory with an argument.
    mutates: whether it writes to an argument.
    draws: whether it draws random numbers.
    works: whether it computes anything on the device.
    """

    aliases: bool
    mutates: bool
    draws: bool
    works: bool


@cache
def _traits(func: OpOverload) -> _Traits:
    schema = func._schema
    return _Traits(
        aliases=any(part.alias_info is not None for part in (*schema.arguments, *schema.returns)),
        mutates=schema.is_mutable,
        draws=torch.Tag.nondeterministic_seeded in func.tags,
        works=not func.is_view and func.overloadpacket not in _WITHOUT_WORK,
    )


def _mapped(call: Callable[[Any], Any], value: Any) -> Any:
    """A value with `call` applied to everything in its lists, tuples and mappings."""
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(call, part) for part in value)
    if isinstance(value, dict):
        return {name: _mapped(call, part) for name, part in value.items()}
    return call(value)


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _inner(leaf: Any) -> Any:
    return leaf.inner if isinstance(leaf, PretendTensor) else leaf


def _wrapped(leaf: Any) -> Any:
    return PretendTensor(leaf) if isinstance(leaf, Tensor) and not isinstance(leaf, PretendTensor) else leaf


def _dispatch(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Counts an operation on tensors of the device, and runs it on the CPU."""
    packet = func.overloadpacket
    if packet is aten._to_copy:
        return _to_copy(args[0], dict(kwargs))
    if packet is aten.copy_:
        return _copy(*args, **kwargs)
    if packet is aten.is_pinned:
        return False
    _require_one_device(func, args, kwargs)
    traits = _traits(func)
    record_operation(work=traits.works)
    if waits_for(func, args, kwargs):
        record_wait(str(func))
    on_cpu = "device" in kwargs and torch.device(kwargs["device"]).type == "cpu"
    result = _on_cpu(func, args, kwargs)
    if on_cpu:
        return result
    wrapped = _mapped(_wrapped, result)
    if traits.aliases:
        wrapped = return_and_correct_aliasing(func, args, kwargs, wrapped)
    if traits.mutates:
        _require_same_form(func, args, kwargs)
    return wrapped


def create(func: OpOverload, *args: Any, **kwargs: Any) -> PretendTensor:
    """Runs an operation that creates a tensor on the device."""
    record_operation(work=_traits(func).works)
    return PretendTensor(_on_cpu(func, args, kwargs))


def _on_cpu(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The result of an operation on the tensors on the CPU."""
    args, kwargs = _mapped(_inner, (_as_operands(func, args), kwargs))
    if kwargs.get("device") is not None:
        kwargs = {**kwargs, "device": CPU}
    if kwargs.get("pin_memory"):
        raise RuntimeError("Only dense CPU tensors can be pinned")
    generator = kwargs.get("generator")
    require_own(generator)
    draws = _traits(func).draws and generator is None
    with default_stream() if draws else nullcontext():
        return func(*args, **kwargs)


def _as_operands(func: OpOverload, args: Sequence[Any]) -> Sequence[Any]:
    """Tensors () of the device as its kernels read them: in the type that they compute in.

    A CPU reads every tensor () as a number, of which bfloat16 operations keep all digits. An accelerator does so with
    tensors on the CPU only (`is_cpu_scalar` in ATen/native/cuda/Loops.cuh).
    """
    if torch.Tag.pointwise not in func.tags:
        return args
    lower = {leaf.dtype for leaf in args if isinstance(leaf, PretendTensor) and leaf.dim()} & _REDUCED
    reads_lower = lower and not any(isinstance(a, Tensor) and a.dim() and a.dtype not in _REDUCED for a in args)

    def rounded(leaf: Any) -> Any:
        if isinstance(leaf, PretendTensor) and not leaf.dim() and leaf.is_floating_point() and reads_lower:
            return leaf.inner.to(next(iter(lower)))
        return leaf

    return [rounded(leaf) for leaf in args]


def _to_copy(source: PretendTensor, kwargs: dict[str, Any]) -> Tensor:
    """tensor.to(...) of a tensor on the device."""
    device = torch.device(kwargs.pop("device", None) or DEVICE)
    non_blocking = kwargs.pop("non_blocking", False)
    kwargs.pop("pin_memory", None)
    copy = aten._to_copy.default(source.inner, **kwargs)
    if device.type == "pretend":
        record_operation(work=True)
        return PretendTensor(copy)
    record_copy("copy out", "aten._to_copy", blocking=not non_blocking)
    if not non_blocking:
        return copy
    host = pin(torch.empty_like(copy))
    fetch(host, copy)
    return host


def _copy(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """target.copy_(source), of which one or both are on the device.

    The host waits, unless the copy is asynchronous and the part on the host is pinned: memory that isn't is copied
    through a buffer, and so is what has another type or order of axes.
    """
    if isinstance(target, PretendTensor) and isinstance(source, PretendTensor):
        record_operation(work=True)
    else:
        host = source if isinstance(target, PretendTensor) else target
        direct = source.dtype == target.dtype and source.stride() == target.stride()
        blocking = not (non_blocking and direct and is_pinned(host))
        record_copy("copy in" if host is source else "copy out", "aten.copy_", blocking=blocking)
        if not blocking and host is source:
            send(host, lines_of_ours())
        elif not blocking:
            fetch(host, source.inner.clone())  # type: ignore[attr-defined]
            return target
    _inner(target).copy_(_inner(source))
    return target


def copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    """What target.copy_(source) comes to inside torch.tensor(..., device="pretend")."""
    return _copy(target, source, non_blocking)


def _require_one_device(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raises RuntimeError, as an accelerator would, if a tensor is on the CPU and may not be there."""
    named = [value for name, value in kwargs.items() if name not in _SCALARS_BY_NAME]
    foreign = [leaf for leaf in _tensors((args, named)) if not isinstance(leaf, PretendTensor)]
    if not foreign:
        return
    if allows_indices_on_cpu(func):
        indices = [index for index in args[1] if index is not None and any(index is leaf for leaf in foreign)]
        for _ in indices:
            record_copy("copy in", f"{func} (index)", blocking=True)
        foreign = [leaf for leaf in foreign if not any(leaf is index for index in indices)]
    for leaf in foreign:
        if leaf.dim() > 0 or not allows_scalars_on_cpu(func):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, {DEVICE} and "
                f"{leaf.device}! (when checking a tensor of shape {tuple(leaf.shape)} in {func})"
            )


def _require_same_form(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raises NotImplementedError if an operation has resized a tensor in place."""
    for leaf in _tensors((args, kwargs)):
        if isinstance(leaf, PretendTensor) and leaf.shape != leaf.inner.shape:
            raise NotImplementedError(f"{func}: the pretend device can't resize a tensor in place")

"""The device "pretend": its registration, and the switch that makes it available."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _DummyDeviceGuard,
    _DummyPrivateUse1Hook,
    _setup_privateuseone_for_python_backend,
)

from pretend import autocasting, memory, random_numbers, timeline
from pretend.names import CPU, DEVICE
from pretend.tensor import copy_from, create

__all__ = ["DEVICE", "available", "enable"]

_available = False


class _Module(_DummyBackendModule):
    """torch.pretend, as torch.get_device_module returns it."""

    def is_available(self) -> bool:
        return _available

    def get_device_name(self, device: Any = None) -> str:
        return "Pretend 1"

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def manual_seed(self, seed: int) -> None:
        random_numbers.DEFAULT.manual_seed(seed)

    manual_seed_all = manual_seed

    def get_rng_state(self, device: Any = None) -> Tensor:
        return random_numbers.DEFAULT.get_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        random_numbers.DEFAULT.set_state(state)

    def synchronize(self, device: Any = None) -> None:
        timeline.synchronize()

    def current_stream(self, device: Any = None) -> timeline.PretendStream:
        return timeline.CURRENT_STREAM


class _Hook(_DummyPrivateUse1Hook):
    def is_available(self) -> bool:
        return _available


def _is_pinned(tensor: Tensor, device: Any = None) -> bool:
    return _available and memory.is_pinned(tensor)


def _pin_memory(tensor: Tensor, device: Any = None) -> Tensor:
    if not _available:
        raise RuntimeError("Cannot access accelerator device when none is available.")
    if any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True)):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
            "Please clone() the tensor before performing the operation."
        )
    return memory.pin(tensor.clone())


def _register() -> tuple[torch.library.Library, ...]:
    """Registers the device with torch. What it returns has to live as long as the process."""
    _setup_privateuseone_for_python_backend("pretend", _Module(), _Hook(), _DummyDeviceGuard())
    library, all_operations = (torch.library.Library(name, "IMPL") for name in ("aten", "_"))
    for op in _factories():
        library.impl(op.name().removeprefix("aten::"), partial(create, op), "PrivateUse1")
    library.impl("_copy_from", copy_from, "PrivateUse1")
    library.impl("is_pinned", _is_pinned, "CPU")
    library.impl("_pin_memory", _pin_memory, "CPU")
    autocasting.register(library, all_operations)
    return library, all_operations


def _factories() -> Iterator[Any]:
    """Every operation that makes a tensor on a device from no other tensor."""
    for schema in torch._C._jit_get_all_schemas():
        name = f"{schema.name}.{schema.overload_name}".rstrip(".")
        takes_tensors = any("Tensor" in str(argument.type) for argument in schema.arguments)
        makes = any(argument.name == "device" for argument in schema.arguments) and not takes_tensors
        if makes and schema.name.startswith("aten::") and torch._C._dispatch_has_kernel(name):
            packet = getattr(torch.ops.aten, schema.name.removeprefix("aten::"))
            yield getattr(packet, schema.overload_name or "default")


_libraries = _register()


def _pinning(factory: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function like torch.empty, whose memory on the CPU can be pinned: torch's allocator can't be replaced."""

    def make(*args: Any, pin_memory: bool = False, **settings: Any) -> Tensor:
        made = factory(*args, **settings)
        if pin_memory and made.device != CPU:
            raise RuntimeError("Only dense CPU tensors can be pinned")
        return memory.pin(made) if pin_memory else made

    return make


# torch has no way to write these in Python. None of them is an operation on tensors.
_REPLACED: list[tuple[Any, str, Any]] = [
    (torch, "Generator", random_numbers.Generator),
    (torch, "Event", timeline.Event),
    (torch, "Stream", timeline.Stream),
    *((torch, name, _pinning(getattr(torch, name))) for name in ("empty", "zeros", "ones", "full", "tensor")),
    (torch.accelerator, "synchronize", timeline.synchronize),
    (torch.accelerator, "current_stream", lambda device=None: timeline.CURRENT_STREAM),
    (torch.accelerator, "empty_cache", lambda: None),
    (torch.accelerator, "memory_allocated", lambda device=None: memory.MEMORY.allocated),
    (torch.accelerator, "max_memory_allocated", lambda device=None: memory.MEMORY.peak),
    (torch.accelerator, "reset_peak_memory_stats", lambda device=None: memory.reset_peak()),
    (torch.accelerator, "get_memory_info", lambda device=None: (memory.TOTAL - memory.MEMORY.allocated, memory.TOTAL)),
]


@contextmanager
def available() -> Iterator[None]:
    """Within, torch says that there is an accelerator, and answers for it.

    Backward passes run in the thread that asks for them: the threads that torch has for devices start with the first
    backward pass of a process, and none is started for a device that is registered later.
    """
    global _available
    before = [(module, name, getattr(module, name)) for module, name, _ in _REPLACED]
    for module, name, ours in _REPLACED:
        setattr(module, name, ours)
    _available = True
    try:
        with torch.autograd.set_multithreading_enabled(False):
            yield
    finally:
        _available = False
        for module, name, theirs in before:
            setattr(module, name, theirs)


_for_good = ExitStack()


def enable() -> None:
    """Makes the device available for the rest of the process, with backward passes in the calling thread."""
    _for_good.enter_context(available())

"""Random numbers of the pretend device: those of a CPU generator with the same seed, from a stream of its own."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pretend.names import DEVICE

# By the address of torch's generator: an operation gets it as another Python object than its caller's.
_generators: weakref.WeakValueDictionary[int, PretendGenerator] = weakref.WeakValueDictionary()
_PlainGenerator = torch.Generator


class PretendGenerator(_PlainGenerator):
    """A generator of the device."""

    def __init__(self) -> None:
        _generators[self._cdata] = self

    @property
    def device(self) -> torch.device:
        return DEVICE

    def clone_state(self) -> PretendGenerator:
        clone = PretendGenerator()
        clone.set_state(self.get_state())
        return clone


DEFAULT = PretendGenerator()


class _InstanceOfPlain(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _PlainGenerator)


class Generator(metaclass=_InstanceOfPlain):
    """Stands for torch.Generator while the device is available."""

    def __new__(cls, device: Any = "cpu") -> Any:
        return PretendGenerator() if torch.device(device).type == "pretend" else _PlainGenerator(device)


def require_own(generator: torch.Generator | None) -> None:
    """Raises RuntimeError, as an accelerator would, if a generator is not one of the device."""
    if generator is not None and generator._cdata not in _generators:
        raise RuntimeError("Expected a 'pretend' device type for generator but found 'cpu'")


@contextmanager
def default_stream() -> Iterator[None]:
    """Within, what draws from the CPU's default stream draws from that of the device."""
    ours = torch.default_generator
    before = ours.get_state()
    ours.set_state(DEFAULT.get_state())
    try:
        yield
    finally:
        DEFAULT.set_state(ours.get_state())
        ours.set_state(before)

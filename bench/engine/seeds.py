"""Random streams, one per purpose: a method that draws more random numbers does not change those of others.

Networks draw from the default streams of torch, as dropout does. They are seeded at the start of every epoch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def seed_for(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose of one run: the same for every method."""
    text = ":".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator_for(seed: int, *purpose: str | int) -> torch.Generator:
    """A generator on the CPU for one purpose of one run."""
    return torch.Generator().manual_seed(seed_for(seed, *purpose))


def default_streams(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's default streams, by kind of device: that of the CPU, and that of an accelerator."""
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state(device)
    return states


def set_default_streams(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Puts the default streams into these states. One of another kind of device has no stream here to belong to."""
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if device.type != "cpu" and device.type in states:
        torch.get_device_module(device).set_rng_state(states[device.type], device)


def require_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Raises an error of torch if these can't be the states of default streams; changes none."""
    for kind, state in states.items():
        if kind in ("cpu", device.type):
            torch.Generator(device if kind == device.type else "cpu").set_state(state)

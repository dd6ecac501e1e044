"""Random streams, one per purpose: a method that draws more random numbers does not change those of others."""

from __future__ import annotations

import hashlib

import torch


def seed_for(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose of one run: the same for every method."""
    text = ":".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator_for(seed: int, *purpose: str | int) -> torch.Generator:
    """A generator on the CPU for one purpose of one run."""
    return torch.Generator().manual_seed(seed_for(seed, *purpose))

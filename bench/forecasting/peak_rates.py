"""Accelerators that a study can be estimated for, with their peak rates as published.

Rates are those of dense products. Data sheets that give them with sparsity, as those of Hopper do, give twice as much.
A product and a sum count as two operations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from bench.spec.lookup import lookup

# What a product is computed in: single precision on ordinary cores, TF32 or bf16 on tensor cores.
Arithmetic = Literal["fp32", "tf32", "bf16"]

_TERA, _GIGA = 1e12, 1e9


@dataclass(frozen=True)
class Hardware:
    """An accelerator.

    operations: of products per second at most, by arithmetic.
    bandwidth: bytes per second at most, to and from its memory.
    memory: its size in bytes.
    source: the document with these numbers.
    """

    label: str
    operations: Mapping[Arithmetic, float]
    bandwidth: float
    memory: float
    source: str


def _hardware(
    label: str, fp32: float, tf32: float, bf16: float, bandwidth: float, memory: float, source: str
) -> Hardware:
    """From the units of data sheets: TFLOPS, GB/s, and GB of memory, by which they mean 2^30 bytes."""
    operations: dict[Arithmetic, float] = {"fp32": fp32 * _TERA, "tf32": tf32 * _TERA, "bf16": bf16 * _TERA}
    return Hardware(label, operations, bandwidth * _GIGA, memory * 2**30, source)


_AMPERE = "NVIDIA A100 Tensor Core GPU, data sheet (2021)"

HARDWARE: Mapping[str, Hardware] = {
    "H200": _hardware("NVIDIA H200 SXM", 67, 494.5, 989.5, 4800, 141, "NVIDIA H200 Tensor Core GPU, data sheet (2024)"),
    "H100": _hardware(
        "NVIDIA H100 SXM", 66.9, 494.7, 989.4, 3350, 80, "NVIDIA H100 Tensor Core GPU Architecture, white paper (2022)"
    ),
    "A100": _hardware("NVIDIA A100 SXM, 80 GB", 19.5, 156, 312, 2039, 80, _AMPERE),
    "A100 40GB": _hardware("NVIDIA A100 SXM, 40 GB", 19.5, 156, 312, 1555, 40, _AMPERE),
    "RTX 3090": _hardware(
        "NVIDIA GeForce RTX 3090", 35.6, 35.6, 71, 936, 24, "NVIDIA Ampere GA102 GPU Architecture, white paper (2021)"
    ),
}

# Devices of this machine, for the message about an unknown name.
_HERE = ("auto", "cpu", "cuda")


def hardware_named(name: str) -> Hardware | None:
    """The accelerator of this name; None for a name of a device of this machine, like auto, cpu or cuda:0.

    Raises:
        UnknownName: it is neither.
    """
    try:
        torch.device(name)
    except (RuntimeError, ValueError):  # ValueError: text that is not UTF-8
        return HARDWARE.get(lookup((*_HERE, *HARDWARE), "device", name))
    return None

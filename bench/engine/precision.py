"""Precision, memory layout and compilation: settings of a run that change no method."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from bench.spec.settings import ComputeSettings, Precision
from methods.contract import Network


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A context for forward passes in `precision`. Parameters, gradients and optimizers keep theirs."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, dtype=torch.bfloat16)


def apply_compute_settings(network: Network, settings: ComputeSettings) -> None:
    """Sets the memory layout of a network, and compiles its encoders at their first forward pass if asked to."""
    if settings.channels_last:
        network.to(memory_format=torch.channels_last)
    if settings.compile:
        # Per-task gradients need a graph that outlives its first backward pass.
        torch._functorch.config.donated_buffer = False
        encoder = network.encoder
        for module in encoder if isinstance(encoder, nn.ModuleList) else [encoder]:
            module.compile()


def choose_kernels(settings: ComputeSettings) -> None:
    """Sets, for the whole process, which kernels an accelerator may use: TF32 in products, cuDNN's fastest."""
    products = "tf32" if settings.tf32 else "ieee"
    cudnn: Any = torch.backends.cudnn  # without types for its parts
    # Each by itself: torch 2.11 does not hand what is set for all of cuDNN on to its convolutions.
    for operations in (cudnn, cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul):
        operations.fp32_precision = products
    torch.backends.cudnn.benchmark = settings.cudnn_benchmark

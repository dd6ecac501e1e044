"""In which numbers, and by which kernels, a network is worked out: settings of a run that change no method."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from bench.spec.settings import ComputeSettings, Precision
from methods.contract import Network


def casting(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Within it, a pass ahead is worked out in `precision`; parameters, gradients and optimizers stay as they are."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, dtype=torch.bfloat16)


def prepare(network: Network, settings: ComputeSettings) -> None:
    """Lays the network out, and has its encoder compiled at its first pass, as the settings say."""
    if settings.channels_last:
        network.to(memory_format=torch.channels_last)
    if settings.compile:
        # A graph that several tasks pass back through has to outlive the first of them.
        torch._functorch.config.donated_buffer = False
        network.encoder.compile()


def allow_tf32(allowed: bool) -> None:
    """Lets an accelerator round the factors of products of single precision to ten bits, or not."""
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.fp32_precision = "tf32" if allowed else "ieee"

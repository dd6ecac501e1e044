"""Sending values to the device of a run without making the host wait for it."""

from __future__ import annotations

import torch
from torch import Tensor


def send(values: Tensor, device: torch.device) -> Tensor:
    """The values on `device`: the tensor itself if it is there, else a copy, which is queued from pinned memory.

    A copy from other memory would make the host wait until the device has finished all work before it.
    """
    if values.device.type != "cpu" or device.type == "cpu":
        return values.to(device)
    if not values.is_pinned():
        # Without repeated or skipped memory, as expanded values or every second one have: torch can't pin the former,
        # and would wait for the latter.
        dense = values if values.is_contiguous() else values.clone()
        values = dense.pin_memory()
    return values.to(device, non_blocking=True)

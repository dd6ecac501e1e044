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
    pinned = values if values.is_pinned() else values.pin_memory()
    return pinned.to(device, non_blocking=True)

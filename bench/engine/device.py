"""The device of a run. No other module names one."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from bench import ROOT
from bench.records.environment import describe_environment
from bench.spec.shown import shown

_PROCESS_STATUS = Path("/proc/self/status")
_RESET_PEAK = Path("/proc/self/clear_refs")


class DeviceUnavailable(ValueError):
    """This machine does not have the requested device."""


def choose_device(name: str) -> torch.device:
    """The device of this name, which becomes current; for "auto", the accelerator if there is one, else the CPU.

    Raises:
        DeviceUnavailable: there is no such device.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, ValueError) as error:  # ValueError: text that is not UTF-8
        raise DeviceUnavailable(f"Expected a device like auto, cpu or cuda, found {shown(name)}.") from error
    if device.type != "cpu" and (accelerator is None or accelerator.type != device.type):
        raise DeviceUnavailable(f"Expected the device {shown(name)}, found none on this machine; use --device auto.")
    if device.type != "cpu" and (device.index or 0) >= torch.accelerator.device_count():
        raise DeviceUnavailable(
            f"Expected a number of {device.type} below {torch.accelerator.device_count()}, found {shown(name)}."
        )
    make_current(device)
    return device


def make_current(device: torch.device) -> None:
    """Makes an accelerator that has a number, as cuda:1, the one that events, pinned memory and graphs belong to."""
    if device.type != "cpu" and device.index is not None:
        torch.accelerator.set_device_index(device.index)


def chip_name(device: torch.device) -> str:
    """The model of the processor, or of the accelerator."""
    if device.type == "cpu":
        return describe_environment(ROOT)["cpu"]
    name: str = torch.get_device_module(device).get_device_name(device)
    return name


def device_name(device: torch.device) -> str:
    """ "cpu", or the kind of accelerator and its model."""
    return "cpu" if device.type == "cpu" else f"{device.type}: {chip_name(device)}"


def synchronise(device: torch.device) -> None:
    """Waits until the device has finished all queued work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def reset_peak_memory(device: torch.device) -> None:
    """Resets the peak memory counter."""
    if device.type != "cpu":
        torch.accelerator.reset_peak_memory_stats(device)
    elif _RESET_PEAK.exists():
        _RESET_PEAK.write_text("5")  # Linux: resets the high-water mark of this process


def peak_memory_mib(device: torch.device) -> float | None:
    """Peak memory since the reset in MiB: of tensors on an accelerator, of the whole process on a CPU (Linux only)."""
    if device.type != "cpu":
        return float(torch.accelerator.max_memory_allocated(device)) / 2**20
    return _of_process("VmHWM")


def memory_mib(device: torch.device) -> float | None:
    """Memory in use now, in MiB, of what `peak_memory_mib` is the peak."""
    if device.type != "cpu":
        return float(torch.accelerator.memory_allocated(device)) / 2**20
    return _of_process("VmRSS")


def release_freed_memory() -> None:
    """Gives freed memory of this process back to the system, which would hide what is allocated next (Linux only)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _of_process(key: str) -> float | None:
    """A figure of this process in MiB, as Linux keeps it."""
    if not _PROCESS_STATUS.exists():
        return None
    found = re.search(rf"{key}:\s+(\d+) kB", _PROCESS_STATUS.read_text())
    return int(found.group(1)) / 2**10 if found else None


def read_at_once(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors on the CPU, with their dtypes. Those of an accelerator are read in one transfer, as bytes."""
    away = [values for values in tensors if values.device.type != "cpu"]
    if not away:
        return list(tensors)
    # Larger dtypes first, so that each tensor starts at a multiple of the size of its dtype.
    dtypes = sorted({values.dtype for values in away}, key=lambda dtype: -dtype.itemsize)
    alike = [[values for values in away if values.dtype == dtype] for dtype in dtypes]
    joined = [torch.cat([values.flatten() for values in of_dtype]).view(torch.uint8) for of_dtype in alike]
    parts = torch.cat(joined).cpu().split([len(part) for part in joined])
    read = {
        dtype: iter(part.view(dtype).split([values.numel() for values in of_dtype]))
        for dtype, part, of_dtype in zip(dtypes, parts, alike, strict=True)
    }
    return [v if v.device.type == "cpu" else next(read[v.dtype]).view(v.shape) for v in tensors]


def free_memory(device: torch.device) -> int:
    """Free bytes of an accelerator."""
    return int(torch.accelerator.get_memory_info(device)[0])

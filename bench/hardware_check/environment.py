"""What a measurement on an accelerator depends on: model, memory, driver and versions."""

from __future__ import annotations

import subprocess
from typing import Any

import torch

from bench import ROOT
from bench.engine.device import chip_name
from bench.records.environment import describe_environment

_DRIVER = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
_PATIENCE = 10.0  # seconds


def hardware_environment(device: torch.device) -> dict[str, Any]:
    """The environment of a run, and of an accelerator its model and what its libraries tell."""
    found: dict[str, Any] = dict(describe_environment(ROOT))
    if device.type == "cpu":
        return found
    found["accelerator"] = chip_name(device)
    if device.type == "cuda":
        found |= _cuda(device)
    return found


def _cuda(device: torch.device) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    found = {
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "cudnn": torch.backends.cudnn.version(),
        "driver": _driver(),
        "memory_mib": properties.total_memory // 2**20,
        "compute_capability": f"{properties.major}.{properties.minor}",
    }
    return {name: value for name, value in found.items() if value is not None}


def _driver() -> str | None:
    """The version of NVIDIA's driver; None if its tool is not there or doesn't answer."""
    try:
        done = subprocess.run(_DRIVER, capture_output=True, text=True, timeout=_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()[0].strip() if done.stdout.strip() else None

"""What the settings of runs ask of the device: what can't be done on it, and what the user should know."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from bench.spec.resolve import RunSpec
from bench.spec.settings import ComputeSettings

# Settings of torch's CUDA backend.
_ONLY_ON_CUDA = ("tf32", "cudnn_benchmark", "cuda_graphs")
# Compared with plain steps on an H200 (docs/gpu.md).
_CHECKED_ON_CUDA = ("precision", "channels_last", "tf32", "cuda_graphs")


def hardware_errors(specs: Sequence[RunSpec], device: torch.device) -> list[str]:
    """Why some of these runs can't be trained on this device, one sentence each."""
    errors = []
    if device.type not in ("cpu", "cuda") and any(spec.settings.compute.cuda_graphs for spec in specs):
        errors.append(f"compute.cuda_graphs: expected false on {device.type}, found true; it needs CUDA.")
    processes = max((spec.settings.compute.processes for spec in specs), default=1)
    here = _devices_from(device)
    if processes > 1 and device.type != "cpu" and processes > here:
        errors.append(
            f"compute.processes: expected at most {here}, one for each {device.type} device of this machine from "
            f"{device} on, found {processes}; choose fewer, or --device cpu."
        )
    return errors


def hardware_remarks(specs: Sequence[RunSpec], device: torch.device) -> list[str]:
    """What the user should know about the chosen settings on this device, one sentence each."""
    chosen = list(dict.fromkeys(name for spec in specs for name in _chosen(spec.settings.compute)))
    remarks = []
    if device.type == "cuda":
        chosen = [name for name in chosen if name not in _CHECKED_ON_CUDA]
    else:
        useless = [name for name in chosen if name in _ONLY_ON_CUDA]
        chosen = [name for name in chosen if name not in useless]
        where = "a CPU" if device.type == "cpu" else device.type
        remarks += [f"{_named(useless)}: no effect on {where}."] if useless else []
    if chosen and device.type != "cpu":
        remarks.append(
            f"{_named(chosen)}: tested without a real accelerator only; `./run_all.sh gpu-check` compares this "
            "machine's with its CPU."
        )
    return remarks


def _devices_from(device: torch.device) -> int:
    """How many accelerators this machine has, from this one on."""
    return max(0, torch.accelerator.device_count() - (device.index or 0))


def _chosen(settings: ComputeSettings) -> list[str]:
    """The settings that differ from their defaults."""
    default = ComputeSettings()
    names = [entry.name for entry in dataclasses.fields(settings)]
    return [name for name in names if getattr(settings, name) != getattr(default, name)]


def _named(names: Sequence[str]) -> str:
    return ", ".join(f"compute.{name}" for name in names)

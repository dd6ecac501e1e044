"""How many runs are trained at a time, and on which device each."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence

import torch

from bench.cli.request import jobs_at_a_time, processes_of_a_run
from bench.launch.devices import devices_of, spread
from bench.spec.request import PlanError, Request


def check_per_device(arguments: Namespace, device: torch.device) -> None:
    """Raises PlanError if --per-device is given on a CPU, or beside --jobs on one machine."""
    if arguments.per_device and device.type == "cpu":
        raise PlanError("--per-device: expected an accelerator, found a CPU; choose how many runs with --jobs.")
    if arguments.per_device and arguments.jobs and arguments.launcher == "local":
        raise PlanError("Expected --jobs or --per-device, found both.")


def worker_devices(arguments: Namespace, device: torch.device, request: Request) -> list[str]:
    """The device of each of the workers that train at a time."""
    per_device = arguments.per_device
    accelerators = 0 if device.type == "cpu" else torch.accelerator.device_count()
    devices = devices_of(str(device), accelerators, processes_of_a_run(request))
    return spread(devices, per_device * len(devices) if per_device else jobs_at_a_time(arguments, device, request))


def placed(devices: Sequence[str]) -> str:
    """How many runs at a time are trained where, in words."""
    counts = Counter(devices)
    if len(counts) == 1:
        return f"{len(devices)} at a time on {devices[0]}"
    return f"{len(devices)} at a time: " + ", ".join(f"{count} on {name}" for name, count in counts.items())

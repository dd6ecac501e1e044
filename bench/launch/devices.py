"""Which accelerator each worker process has."""

from __future__ import annotations

from collections.abc import Sequence


def devices_of(name: str, accelerators: int, processes: int = 1) -> list[str]:
    """The devices that runs can be spread over: each is the first of those that a run takes.

    name: as chosen, "cuda" for all accelerators of this machine, "cuda:1" for this one.
    accelerators: how many this machine has. processes: that train one run, each on an accelerator of its own.
    """
    kind, _, index = name.partition(":")
    if kind == "cpu" or index or accelerators < 2:
        return [name]
    usable = accelerators - accelerators % processes
    return [f"{kind}:{place}" for place in range(0, usable, processes)] or [name]


def spread(devices: Sequence[str], workers: int) -> list[str]:
    """A device for each worker, the least loaded first; of equally loaded ones, the first."""
    loads = dict.fromkeys(devices, 0)
    chosen = []
    for _ in range(workers):
        device = min(loads, key=lambda one: loads[one])
        loads[device] += 1
        chosen.append(device)
    return chosen

"""Data-parallel training: several processes train one run, each on its part of every batch.

Each process has the whole network. Losses, gradients and the rows of the Jacobian are averaged over all processes, so
that all of them take the same step: that of the whole batch. Random draws of the network, such as dropout, differ
between processes. BatchNorm normalises by the statistics of its own part.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from bench.engine.device import DeviceUnavailable
from bench.spec.resolve import RunSpec

HOST = "127.0.0.1"


def _nobody(epoch: int) -> None:
    del epoch


def _itself(error: RuntimeError) -> Exception:
    return error


@dataclass(frozen=True)
class DataParallel:
    """The place of this process among those that train a run.

    rank: 0 for the one that validates, records and writes checkpoints.
    size: the number of processes.
    tell: of rank 0: tells the others to train the epoch of this index.
    cause: what made an exchange fail, from the error that it raised.
    """

    rank: int = 0
    size: int = 1
    tell: Callable[[int], None] = _nobody
    cause: Callable[[RuntimeError], Exception] = _itself

    def part(self, batch_size: int) -> slice:
        """The images of each batch that are this process's."""
        own = batch_size // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces the values of tensors of one type by their means over all processes, in one exchange.

        Every process gets the same values to the last bit.

        Raises:
            Exception: what `cause` says, if another process has ended.
        """
        if self.size == 1 or not tensors:
            return
        alone = len(tensors) == 1 and tensors[0].is_contiguous()
        values = tensors[0] if alone else torch.cat([each.reshape(-1) for each in tensors])
        try:
            distributed.all_reduce(values)
        except RuntimeError as error:
            raise self.cause(error) from error
        values /= self.size
        if not alone:
            pieces = values.split([each.numel() for each in tensors])
            torch._foreach_copy_(
                list(tensors), [piece.view(each.shape) for piece, each in zip(pieces, tensors, strict=True)]
            )


ALONE = DataParallel()


def open_store(size: int) -> distributed.TCPStore:
    """Where the processes of a run find each other: at a free port of this machine."""
    return distributed.TCPStore(HOST, 0, size, is_master=True, wait_for_workers=False)


def find_store(port: int, size: int) -> distributed.TCPStore:
    """The store that another process has opened at this port."""
    return distributed.TCPStore(HOST, port, size, is_master=False)


@contextmanager
def joined(store: distributed.Store, rank: int, size: int, device: torch.device) -> Iterator[None]:
    """Within, this process can exchange tensors with the others. It waits for them."""
    backend = "gloo"
    if device.type != "cpu":
        torch.accelerator.set_device_index(device)
        backend = f"cpu:gloo,{device.type}:{distributed.get_default_backend_for_device(device)}"
    # Connections stay inside this machine, whatever its name resolves to.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", next(n for _, n in socket.if_nameindex() if n.startswith("lo")))
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def device_of_rank(device: torch.device, rank: int) -> torch.device:
    """The CPU, or the accelerator that is `rank` places after that of the run."""
    return device if device.type == "cpu" else torch.device(device.type, (device.index or 0) + rank)


def require_devices(specs: Sequence[RunSpec], device: torch.device) -> None:
    """Raises DeviceUnavailable if a run has more processes than there are accelerators for them."""
    wanted = max((spec.settings.compute.processes for spec in specs), default=1)
    if wanted == 1 or device.type == "cpu":
        return
    first, count = device.index or 0, torch.accelerator.device_count()
    if first + wanted > count:
        raise DeviceUnavailable(
            f"compute.processes: expected at most {count - first}, the devices from {device.type}:{first} on that this "
            f"machine has, found {wanted}; choose fewer, or --device cpu."
        )

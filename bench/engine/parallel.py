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
from typing import Any

import torch
from torch import Tensor, distributed

HOST = "127.0.0.1"


def _nobody(epoch: int, steps: int) -> None:
    del epoch, steps


def _itself(error: RuntimeError) -> Exception:
    return error


@dataclass(frozen=True)
class DataParallel:
    """The place of this process among those that train a run.

    rank: 0 for the one that validates, records and writes checkpoints.
    size: the number of processes.
    tell: of rank 0: tells the others to train the epoch of this index, of which so many steps are done.
    cause: what made an exchange fail, from the error that it raised.
    """

    rank: int = 0
    size: int = 1
    tell: Callable[[int, int], None] = _nobody
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
        with self._causes():
            distributed.all_reduce(values)
        values /= self.size
        if not alone:
            pieces = values.split([each.numel() for each in tensors])
            torch._foreach_copy_(
                list(tensors), [piece.view(each.shape) for piece, each in zip(pieces, tensors, strict=True)]
            )

    def agreed(self, choice: bool) -> bool:
        """What the first process has chosen. All processes wait for it.

        Raises:
            Exception: as in `average`.
        """
        if self.size == 1:
            return choice
        chosen = torch.tensor([choice])
        with self._causes():
            distributed.broadcast(chosen, 0)
        return bool(chosen)

    def gathered(self, values: Tensor) -> list[Tensor]:
        """The values of every process, by rank. They are on the CPU, and of one shape and type.

        Raises:
            Exception: as in `average`.
        """
        if self.size == 1:
            return [values]
        every = [torch.empty_like(values) for _ in range(self.size)]
        with self._causes():
            distributed.all_gather(every, values)
        return every

    @contextmanager
    def _causes(self) -> Iterator[None]:
        """Within, the error of a failed exchange becomes what made it fail."""
        try:
            yield
        except RuntimeError as error:
            raise self.cause(error) from error


ALONE = DataParallel()


def open_store(size: int, port: int | None = None) -> Any:
    """Where the processes of a run find each other: at a new port, or at one of this machine that is open already.

    Only this machine can connect to it. By itself, the store would listen to every network, and let anybody in.
    """
    if port is not None:
        return distributed.TCPStore(HOST, port, size, is_master=False, wait_for_workers=False)  # type: ignore[attr-defined]
    listening = socket.create_server((HOST, 0))
    port = listening.getsockname()[1]
    return distributed.TCPStore(  # type: ignore[attr-defined]
        HOST, port, size, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
    )


@contextmanager
def joined(store: Any, rank: int, size: int, device: torch.device) -> Iterator[None]:
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


def threads_each(threads: int, processes: int) -> int:
    """How many of a run's threads each of its processes gets."""
    return max(1, threads // processes)

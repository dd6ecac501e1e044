"""A second process that takes the same steps as a test, each of them on half of every batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import torch
from synthetic_splits import random_splits
from torch import Tensor

from bench.engine.batches import training_batches
from bench.engine.build import build_network
from bench.engine.parallel import ALONE, DataParallel, joined, open_store
from bench.engine.seeds import generator_for
from bench.engine.step import train_step
from bench.engine.train_state import make_train_state
from bench.processes.fork_server import process_context
from bench.spec.resolve import resolve
from datasets.contract import Batch, Group

CPU = torch.device("cpu")
BATCH = 8


@dataclass(frozen=True)
class Case:
    """A few steps of a method. settings: dotted, those of a run in one process."""

    data: str
    weighting: str
    architecture: str = "hps"
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        values = [f"{key.split('.')[1]}={value}" for key, value in self.settings.items()]
        return "-".join([self.data, self.architecture, self.weighting, *values])


def after_steps(case: Case, parallel: DataParallel = ALONE, **changes: object) -> dict[str, Tensor]:
    """Losses, weights and cosines of three steps in double precision, and the network after them."""
    settings = {"train.batch_size": BATCH, "compute.processes": parallel.size, **case.settings, **changes}
    spec = resolve(case.data, architecture=case.architecture, weighting=case.weighting, assignments=settings)
    state = make_train_state(spec, build_network(spec, CPU).double(), parallel=parallel)
    train, part = random_splits(spec.info).train, parallel.part(BATCH)
    augment, every = spec.settings.data.augment, spec.settings.train.cosines_every
    found: dict[str, Tensor] = {}
    for step, batch in enumerate(training_batches(train, spec.info, BATCH, generator_for(0, "x"), CPU, augment, part)):
        result = train_step(state, _double(batch), step, 0, cosines=every > 0)
        found |= {f"losses {step}": result.losses, f"weights {step}": result.weights}
        found |= {f"cosines {step}": result.cosines} if result.cosines is not None else {}
    return {**found, **state.network.state_dict(), **state.weighting_state.memory}


def _double(batch: Batch) -> Batch:
    return [
        Group(
            group.inputs.double(),
            {task: t.double() if t.is_floating_point() else t for task, t in group.targets.items()},
        )
        for group in batch
    ]


class Partner:
    """The second process, and this one's place beside it."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.parallel = connection, DataParallel(0, 2)

    def after_steps(self, case: Case) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What `after_steps` finds in this process and in the other one."""
        self.connection.send(case)
        here = after_steps(case, self.parallel)
        return here, self.connection.recv()


@contextmanager
def partner() -> Iterator[Partner]:
    """A second process that has joined this one."""
    context = process_context(("bench.launch.worker", "torch._dynamo"))
    ours, theirs = context.Pipe()
    store = open_store(2)
    process = context.Process(target=_along, args=(theirs, store.port), daemon=True)
    process.start()
    theirs.close()
    with joined(store, 0, 2, CPU):
        yield Partner(ours)
    ours.send(None)
    process.join(10)


def _along(connection: Connection, port: int) -> None:
    torch.set_num_threads(1)
    with joined(open_store(2, port), 1, 2, CPU):
        while (case := connection.recv()) is not None:
            connection.send(after_steps(case, DataParallel(1, 2)))

"""What happens on a node of a Ray cluster: a task trains one run, as a launch on that machine does.

What driver and nodes tell each other is pickled by Ray. Results and data are read from folders that all nodes share.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.launch.config import LaunchConfig
from bench.launch.local import train_queue
from bench.launch.messages import Event
from bench.launch.run_queue import RunQueue
from bench.records.claim import Holder
from bench.records.files import StorageError
from bench.spec.resolve import RunSpec


@dataclass(frozen=True)
class Attempt:
    """A run that is submitted. lost, gone: as in `RunQueue`. epochs: of it that are done."""

    spec: RunSpec
    lost: tuple[str, ...] = ()
    gone: Holder | None = None
    epochs: int = 0


@dataclass(frozen=True)
class Shared:
    """What a node has to have. mark: a new file in the results of the command. code: the checkout that it runs."""

    mark: Path
    code: Path


class Mailbox:
    """An actor beside the driver: events from nodes wait here until the driver takes them."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def put(self, event: Event) -> None:
        self.events.append(event)

    def take(self) -> list[Event]:
        taken, self.events = self.events, []
        return taken


def train_on_node(attempt: Attempt, config: LaunchConfig, shared: Shared, mailbox: Any) -> Event:
    """A task: trains one run in a worker process of its own; how it ended. Progress goes to the mailbox."""
    ended: list[Event] = []

    def post(event: Event) -> None:
        if event.kind == "end":
            ended.append(event)
        else:
            mailbox.put.remote(event)

    try:
        require_shared(config, shared, config.data[attempt.spec.data])
        queue = RunQueue([attempt.spec], config, post, attempt.lost, attempt.gone)
        train_queue(queue, config, 1, post)
    except StorageError as error:
        return Event("storage", attempt.spec, note=str(error))
    return ended[-1]


def require_shared(config: LaunchConfig, shared: Shared, data: Path) -> None:
    """Raises StorageError unless this machine runs the code of the command, and sees its results and the data."""
    if shared.code != ROOT:
        raise StorageError(
            f"{shared.code} on {os.uname().nodename}: expected this checkout, found the code of {ROOT}; share the "
            "checkout with all nodes, at the same path (docs/scale.md)."
        )
    if not shared.mark.is_file():
        found = "another folder" if config.results.is_dir() else "none"
        raise StorageError(
            f"{config.results} on {os.uname().nodename}: expected the folder of results that this command writes, "
            f"found {found}; share it with all nodes, at the same path (docs/scale.md)."
        )
    if not data.is_dir():
        raise StorageError(
            f"{data} on {os.uname().nodename}: expected a folder of data, found none; share it with all nodes, at the "
            "same path (docs/scale.md)."
        )

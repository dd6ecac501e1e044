"""Kills the processes of runs in the middle of their epochs, and compares what they end with.

As a command, `python tests/kills_in_epochs.py --kills 100`, it prints the figures of docs/reliability.md.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_trees import write_digits
from interrupted import numbers

from bench.engine.checkpoint_file import reached
from bench.launch.config import LaunchConfig
from bench.launch.local import run_locally
from bench.launch.messages import Event
from bench.records.claim import has_died, holder_of
from bench.records.store import CHECKPOINT, RECORD, read_record
from bench.spec.resolve import RunKey, RunSpec, resolve

METHODS = (
    "ew", "uw", "gradnorm", "mgda", "pcgrad", "nash_mtl", "graddrop", "rlw", "imtl", "cagrad", "normal", "modo", "stl",
)  # fmt: skip
TWO_PROCESSES = ("ew", "gradnorm", "normal")
EPOCHS, BATCH = 3, 8
NOISY = {"backbone.bottleneck": True, "data.augment": True}
JOBS = 2
# Seconds between checkpoints, in turn: after every step, and after some, so that steps are done again.
INTERVALS = (0.0, 0.1)
MOST_KILLS = 8  # of one run
LONGEST_DELAY = 0.05  # seconds from a checkpoint to a kill: a few steps


@dataclass(frozen=True)
class Kill:
    """A run whose process was killed.

    processes: that train it. epochs, steps: where its checkpoint is. writing: whether it was writing one.
    """

    method: str
    processes: int
    epochs: int
    steps: int
    writing: bool


@dataclass
class Killer:
    """Follows the events of a launch, and kills a process of a run a moment after one of its checkpoints.

    left: for each run, how many of its checkpoints pass before the next kill.
    """

    config: LaunchConfig
    most: int
    generator: random.Random
    kills: list[Kill] = field(default_factory=list)
    left: dict[RunKey, int] = field(default_factory=dict)
    hit: Counter[RunKey] = field(default_factory=Counter)

    def __call__(self, event: Event) -> None:
        key = event.spec.key
        if event.kind != "part" or self.hit[key] >= MOST_KILLS or len(self.kills) >= self.most:
            return
        self.left[key] = self.left.get(key, self.generator.randint(0, 3)) - 1
        if self.left[key] < 0:
            del self.left[key]
            time.sleep(self.generator.uniform(0, LONGEST_DELAY))
            self._kill(event.spec)

    def _kill(self, spec: RunSpec) -> None:
        """Kills the worker of a run, or the further process, after which the worker dies as well."""
        folder = self.config.folder(spec)
        holder = holder_of(folder)
        if holder is None or has_died(holder):  # the event is an old one: the run has ended, or was hit before
            return
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            os.kill(self.generator.choice(_processes(holder.process)), signal.SIGKILL)
        until = time.monotonic() + 20
        while not has_died(holder):
            assert time.monotonic() < until, holder
            time.sleep(0.005)
        if (far := reached(folder / CHECKPOINT)) is not None:
            self.hit[spec.key] += 1
            writing = any(folder.glob(".*.tmp"))
            kill = Kill(spec.method, spec.settings.compute.processes, far.epochs, far.steps, writing)
            self.kills.append(kill)


def _processes(worker: int) -> list[int]:
    """A worker and its further processes, which its own fork server has started."""
    children = psutil.Process(worker).children(recursive=True)
    return [worker, *(child.pid for child in children if child.ppid() != worker)]


@dataclass(frozen=True)
class Figures:
    """What a soak found. runs: finished ones that were compared; differences: those that differ."""

    kills: Sequence[Kill]
    runs: int
    differences: Sequence[str]


def specs_of(methods: Sequence[str], two: Sequence[str]) -> list[RunSpec]:
    """A run of each method, with every random stream; and one by two processes of some."""
    settings = {"train.epochs": EPOCHS, "train.batch_size": BATCH, **NOISY}
    cosines = {method: {} if method == "stl" else {"train.cosines_every": 5} for method in methods}
    alone = [resolve("digits", method, assignments={**settings, **cosines[method]}) for method in methods]
    return [*alone, *(resolve("digits", method, assignments={**settings, "compute.processes": 2}) for method in two)]


def soak(kills: int, seed: int, folder: Path, specs: Sequence[RunSpec]) -> Figures:
    """Trains all runs again and again, until this many of their processes were killed."""
    data = {"digits": write_digits(folder / "data")}
    whole = LaunchConfig(data, folder / "whole", "cpu", 1, checkpoint_every=1e9)
    run_locally(specs, whole, JOBS, lambda event: None)
    found: list[Kill] = []
    differing: list[str] = []
    passes = 0
    while len(found) < kills:
        every = INTERVALS[passes % len(INTERVALS)]
        config = LaunchConfig(data, folder / f"pass-{passes}", "cpu", 1, retries=10**6, checkpoint_every=every)
        killer = Killer(config, kills - len(found), random.Random(f"{seed} {passes}"))
        run_locally(specs, config, JOBS, killer)
        found += killer.kills
        for spec in specs:
            if _numbers(spec, config) != _numbers(spec, whole):
                differing.append(f"{config.results.name}/{spec.variant}")
        passes += 1
        print(f"{passes} passes, {len(found)} kills, {len(differing)} differences", file=sys.stderr, flush=True)
    return Figures(found, passes * len(specs), differing)


def _numbers(spec: RunSpec, config: LaunchConfig) -> object:
    """Everything of a run but times and how its attempts ended."""
    record = read_record(config.folder(spec) / RECORD)
    assert record.status == "done", record.reason
    return numbers(record.model_copy(update={"lost": []}), config.folder(spec))


def table(figures: Figures) -> str:
    """The figures in Markdown."""
    kills = figures.kills
    inside = [kill for kill in kills if kill.steps]
    steps = Counter(kill.steps for kill in inside)
    methods = Counter((kill.method, kill.processes) for kill in kills)
    lines = [
        f"Kills: {len(kills)}; of these {len(inside)} with a checkpoint in the middle of an epoch, "
        f"{sum(kill.writing for kill in kills)} while a checkpoint was written, "
        f"{sum(kill.processes > 1 for kill in kills)} of runs that two processes train. "
        f"Finished runs compared: {figures.runs}. Differences: {len(figures.differences)}.",
        "",
        "| step of the checkpoint | kills |",
        "| --: | --: |",
        *(f"| {step} | {steps[step]} |" for step in sorted(steps)),
        "",
        "| method | processes | kills |",
        "| :-- | --: | --: |",
        *(f"| {method} | {processes} | {count} |" for (method, processes), count in methods.items()),
    ]
    return "\n".join([*lines, *figures.differences])


def main(argv: Sequence[str] | None = None) -> int:
    """0: no difference. 1: there are some."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="end when this many processes were killed")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        figures = soak(arguments.kills, arguments.seed, Path(folder), specs_of(METHODS, TWO_PROCESSES))
    print(table(figures))
    return 1 if figures.differences else 0


if __name__ == "__main__":
    raise SystemExit(main())

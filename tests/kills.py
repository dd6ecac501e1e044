"""Kills whole commands at random instants, starts them again, and compares their results with uninterrupted ones.

As a command, `python tests/kills.py --hits 100 --data-root DIR`, it prints the figures of docs/reliability.md.
"""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import ROOT
from bench.records.claim import CLAIM, holder_of
from bench.records.store import CHECKPOINT, CURVE, POSITIONS, RECORD, read_record
from datasets import obtain

EPOCHS = 12
# All at a time, so that each kill hits several runs: most of the time of a short command is its start.
STUDY = f"""
title: Runs that are killed
data: [digits]
seeds: [0]
set: {{train.epochs: {EPOCHS}}}
tables:
  - name: killed
    title: Runs that are killed
    rows:
      - {{label: EW, method: ew}}
      - {{label: GradNorm, method: gradnorm}}
      - {{label: FAMO, method: famo}}
      - {{label: Nash-MTL every second step, method: nash_mtl, set: {{weighting.every: 2}}}}
      - {{label: MoCo, method: moco}}
      - {{label: NORMAL alternating, method: normal, set: {{arch.updates: alternating}}}}
"""
RUNS = 6
REQUEST = ("--study", "killed", "--device", "cpu", "--jobs", str(RUNS))
# bench.run, with a folder of studies of its own.
_PROGRAM = """
import sys
from pathlib import Path
from bench import run
from bench.spec import study

study.STUDIES = Path(sys.argv.pop(1))
raise SystemExit(run.main())
"""
COMPARED = (
    "status", "reason", "reference", "validation", "test", "last_test", "selected", "positions", "epochs", "steps",
    "solver_fallbacks", "field_evaluations", "fingerprint", "settings", "versions",
)  # fmt: skip


@dataclass(frozen=True)
class Hit:
    """A run that was in flight when its command was killed.

    phase: what it was doing, as far as its files show it.
    epochs: finished ones, after which it goes on.
    """

    phase: str
    epochs: int


@dataclass(frozen=True)
class Figures:
    """What a soak found.

    kills: of commands; the runs that each has hit.
    runs: finished ones that were compared.
    differences: those that differ.
    """

    kills: Sequence[Sequence[Hit]]
    runs: int
    differences: Sequence[str]

    @property
    def hits(self) -> list[Hit]:
        """All runs that were hit."""
        return [hit for hits in self.kills for hit in hits]


def started(request: Sequence[str], results: Path, data_root: Path) -> subprocess.Popen[bytes]:
    """bench.run in a process group of its own. It finds STUDY beside the results."""
    studies = results.parent / "studies"
    studies.mkdir(parents=True, exist_ok=True)
    (studies / "killed.yaml").write_text(STUDY)
    where = ["--results", str(results), "--data-root", str(data_root)]
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(studies), *request, *where],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kills a command with its fork server and its workers, and waits until all are dead."""
    group = [p for p in psutil.process_iter() if _group(p.pid) == process.pid]
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 10
    while any(_is_alive(p) for p in group):
        assert time.monotonic() < until, group
        time.sleep(0.01)


def _is_alive(process: psutil.Process) -> bool:
    """Whether a process is more than an exit code that nobody has asked for."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _group(process: int) -> int | None:
    try:
        return os.getpgid(process)
    except ProcessLookupError:
        return None


def kill_at(request: Sequence[str], results: Path, data_root: Path, due: Callable[[float], bool]) -> list[Hit] | None:
    """Starts a command and kills it when it is due, by its seconds; None if it ended before."""
    owners = _owners(results)
    process, start = started(request, results, data_root), time.monotonic()
    while not due(time.monotonic() - start):
        if process.poll() is not None:
            assert process.returncode == 0, f"{' '.join(request)} ended with {process.returncode}"
            return None
        time.sleep(0.005)
    kill_all(process)
    return [_hit(folder) for folder, owner in _owners(results).items() if owners.get(folder) != owner]


def _owners(results: Path) -> dict[Path, str]:
    """Who has claimed the runs, by folder."""
    holders = {path.parent: holder_of(path.parent) for path in results.rglob(CLAIM)}
    return {folder: holder.owner for folder, holder in holders.items() if holder}


def _hit(folder: Path) -> Hit:
    """What a kill has hit of a run, by the files that it left."""
    path = folder / CHECKPOINT
    epochs = torch.load(path, weights_only=True)["history"]["epochs"] if path.exists() else 0
    if list(folder.glob(".*.tmp")):
        return Hit("writing a file", epochs)
    if (folder / CURVE).exists():
        return Hit("writing the record", epochs)
    return Hit("evaluation on test" if epochs == EPOCHS else "training and validation", epochs)


def numbers(results: Path) -> dict[str, Any]:
    """All numbers of all runs but times, by run and file."""
    found: dict[str, Any] = {}
    for path in sorted(results.rglob(RECORD)):
        run = str(path.parent.relative_to(results))
        found[run] = read_record(path).model_dump(include=set(COMPARED))
        for name in (CURVE, POSITIONS):
            if (path.parent / name).exists():
                with (path.parent / name).open(newline="") as file:
                    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
                found[f"{run}/{name}"] = rows
    return found


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """The runs and files whose numbers differ in any bit. NaN equals NaN."""
    return [name for name in sorted({*found, *expected}) if repr(found.get(name)) != repr(expected.get(name))]


def soak(hits: int, seed: int, data_root: Path, folder: Path) -> Figures:
    """Kills the study until this many runs were hit, each time at an instant drawn over its whole length."""
    length = finish(folder / "whole", data_root)
    expected, generator = numbers(folder / "whole"), random.Random(seed)
    kills: list[list[Hit]] = []
    differing: list[str] = []
    passes = 0
    while sum(map(len, kills)) < hits:
        results, before, start = folder / f"pass-{passes}", len(kills), time.monotonic()
        while (hit := kill_at(REQUEST, results, data_root, _after(generator.uniform(0, length)))) is not None:
            kills.append(hit)
            print(f"{len(kills)} kills, {sum(map(len, kills))} runs hit", file=sys.stderr, flush=True)
        if len(kills) == before:  # the machine may be less busy now
            length = time.monotonic() - start
        differing += [f"{results.name}/{name}" for name in differences(numbers(results), expected)]
        passes += 1
        print(f"{passes} passes, {len(differing)} differences; {length:.0f} s each", file=sys.stderr, flush=True)
    return Figures(kills, passes * RUNS, differing)


def finish(results: Path, data_root: Path) -> float:
    """Runs the study without a kill; its seconds."""
    start = time.monotonic()
    assert kill_at(REQUEST, results, data_root, lambda seconds: False) is None
    return time.monotonic() - start


def _after(instant: float) -> Callable[[float], bool]:
    return lambda seconds: seconds > instant


def table(figures: Figures) -> str:
    """The figures in Markdown."""
    phases = Counter(hit.phase for hit in figures.hits)
    epochs = Counter(hit.epochs for hit in figures.hits)
    idle = sum(not hits for hits in figures.kills)
    lines = [
        f"Kills of commands: {len(figures.kills)}, of these {idle} before a run had started, between two or after the "
        f"last. Runs hit: {len(figures.hits)}. Finished runs compared: {figures.runs}. "
        f"Differences: {len(figures.differences)}.",
        "",
        "| the run was hit during | runs |",
        "| :-- | --: |",
        *(f"| {phase} | {count} |" for phase, count in phases.most_common()),
        "",
        "| finished epochs when it was hit | runs |",
        "| --: | --: |",
        *(f"| {count} | {epochs[count]} |" for count in sorted(epochs)),
    ]
    return "\n".join([*lines, *figures.differences])


def main(argv: Sequence[str] | None = None) -> int:
    """0: no difference. 1: there are some."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--hits", type=int, default=100, help="end when this many runs were hit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-root", type=Path, required=True, help="where embedded data is, or is to be made")
    arguments = parser.parse_args(argv)
    obtain("digits", arguments.data_root)
    with tempfile.TemporaryDirectory() as folder:
        figures = soak(arguments.hits, arguments.seed, arguments.data_root, Path(folder))
    print(table(figures))
    return 1 if figures.differences else 0


if __name__ == "__main__":
    raise SystemExit(main())

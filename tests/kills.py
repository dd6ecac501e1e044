"""Kills whole commands at random instants, starts them again, and compares their results with uninterrupted ones.

As a command, `python tests/kills.py --kills 100 --data-root DIR`, it prints the figures of docs/reliability.md.
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

EPOCHS = 10
_COMMON = ("--data", "digits", "--seeds", "0", "--epochs", str(EPOCHS), "--device", "cpu", "--jobs", "1")
REQUESTS = (
    ("--method", "ew", "gradnorm", "famo", "moco", *_COMMON),
    ("--method", "nash_mtl", *_COMMON, "--set", "weighting.every=2"),
    ("--method", "normal", *_COMMON, "--set", "arch.updates=alternating"),
)
COMPARED = (
    "status", "reason", "reference", "validation", "test", "last_test", "selected", "positions", "epochs", "steps",
    "solver_fallbacks", "field_evaluations", "fingerprint", "settings", "versions",
)  # fmt: skip


@dataclass(frozen=True)
class Kill:
    """What a kill hit.

    phase: of the command, as far as its files show it.
    epochs: those that the run in flight goes on from; None without one.
    """

    phase: str
    epochs: int | None


@dataclass(frozen=True)
class Figures:
    """What a soak found: all kills, how many finished runs were compared, and where they differed."""

    kills: Sequence[Kill]
    runs: int
    differences: Sequence[str]


def started(request: Sequence[str], results: Path, data_root: Path) -> subprocess.Popen[bytes]:
    """The command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "bench.run", *request, "--results", str(results), "--data-root", str(data_root)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kills a command with its fork server and its workers, and waits until all are dead."""
    group = [p for p in psutil.process_iter() if _group(p.pid) == process.pid]
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(group, timeout=10)
    left = [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
    assert not left, left


def _group(process: int) -> int | None:
    try:
        return os.getpgid(process)
    except ProcessLookupError:
        return None


def kill_at(request: Sequence[str], results: Path, data_root: Path, due: Callable[[float], bool]) -> Kill | None:
    """Starts a command and kills it when it is due, by its seconds; None if it ended before."""
    owners = _owners(results)
    process, start = started(request, results, data_root), time.monotonic()
    while not due(time.monotonic() - start):
        if process.poll() is not None:
            assert process.returncode == 0, f"{' '.join(request)} ended with {process.returncode}"
            return None
        time.sleep(0.005)
    kill_all(process)
    return _hit(results, {folder for folder, owner in _owners(results).items() if owners.get(folder) != owner})


def _owners(results: Path) -> dict[Path, str]:
    """Who has claimed the runs, by folder."""
    holders = {path.parent: holder_of(path.parent) for path in results.rglob(CLAIM)}
    return {folder: holder.owner for folder, holder in holders.items() if holder}


def _hit(results: Path, claimed: set[Path]) -> Kill:
    """What a kill hit, by the files that it left; claimed: the runs that the killed command had claimed."""
    if not claimed:
        return Kill("before the first run, between two runs, or after the last", None)
    (folder,) = claimed
    path = folder / CHECKPOINT
    epochs = torch.load(path, weights_only=True)["history"]["epochs"] if path.exists() else 0
    if list(folder.glob(".*.tmp")):
        return Kill("writing a file", epochs)
    if (folder / CURVE).exists():
        return Kill("writing the record", epochs)
    return Kill("evaluation on test" if epochs == EPOCHS else "training and validation", epochs)


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


def soak(kills: int, seed: int, data_root: Path, folder: Path, requests: Sequence[Sequence[str]] = REQUESTS) -> Figures:
    """Kills commands this often, each at an instant drawn over the length of the uninterrupted command."""
    lengths = []
    for request in requests:
        start = time.monotonic()
        assert kill_at(request, folder / "whole", data_root, lambda seconds: False) is None
        lengths.append(time.monotonic() - start)
    expected, generator = numbers(folder / "whole"), random.Random(seed)
    hits: list[Kill] = []
    differing: list[str] = []
    passes = 0
    while len(hits) < kills:
        results = folder / f"pass-{passes}"
        for request, length in zip(requests, lengths, strict=True):
            instant = generator.uniform(0, length)
            while hit := kill_at(
                request,
                results,
                data_root,
                lambda s, at=instant: s > at and len(hits) < kills,  # type: ignore[misc]
            ):
                hits.append(hit)
                instant = generator.uniform(0, length)
        differing += [f"{results.name}/{name}" for name in differences(numbers(results), expected)]
        passes += 1
        print(f"{len(hits)} kills, {passes} passes, {len(differing)} differences", file=sys.stderr, flush=True)
    return Figures(hits, passes * sum(name.endswith(CURVE) for name in expected), differing)


def table(figures: Figures) -> str:
    """The figures in Markdown."""
    phases = Counter(hit.phase for hit in figures.kills)
    epochs = Counter(hit.epochs for hit in figures.kills if hit.epochs is not None)
    lines = ["| the kill hit | kills |", "| :-- | --: |"]
    lines += [f"| {phase} | {count} |" for phase, count in phases.most_common()]
    lines += [f"| all | {len(figures.kills)} |", "", "| the run went on from | kills |", "| :-- | --: |"]
    lines += [f"| {f'epoch {e}' if e else 'its start'} | {epochs[e]} |" for e in sorted(epochs)]
    lines += ["", f"Runs compared: {figures.runs}. Differences: {len(figures.differences)}."]
    return "\n".join([*lines, *figures.differences])


def main(argv: Sequence[str] | None = None) -> int:
    """0: no difference. 1: there are some."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-root", type=Path, required=True, help="where embedded data is, or is to be made")
    arguments = parser.parse_args(argv)
    obtain("digits", arguments.data_root)
    with tempfile.TemporaryDirectory() as folder:
        figures = soak(arguments.kills, arguments.seed, arguments.data_root, Path(folder))
    print(table(figures))
    return 1 if figures.differences else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Records of very many runs, made up, and what their reports take.

As a command, `python tests/many_reports.py`, it prints the figures of docs/scale.md.
"""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from record_factory import METHODS, make_record

from bench import ROOT
from bench.records.record import Labels, Order, Record
from bench.records.selected_scores import selected_scores
from bench.records.store import CURVE, RECORD, run_folder
from bench.reporting.page.render import PAGE

EPOCHS = 60


def many_records(problems: int, rows: int, seeds: int) -> Iterator[Record]:
    """Runs of so many rows and seeds on each problem; rows beyond the nine methods have learning rates of their own."""
    for problem in range(problems):
        for row in range(rows):
            method = METHODS[row % len(METHODS)]
            own = {"train.lr": 0.001 * row} if row >= len(METHODS) else {}
            key = f"{method.lower()}@{row:08x}" if own else method.lower()
            given = {"epochs": EPOCHS, "steps": 10 * EPOCHS, "overrides": own, "variant": key}
            given["settings"] = {"train": {"epochs": EPOCHS, "lr": own.get("train.lr", 0.5)}, "weighting": {}}
            labels, order = Labels(data=f"Problem {problem}", method=method), Order(data=problem, method=row % 9)
            for seed in range(seeds):
                draw = random.Random(f"{problem} {row} {seed}")
                run = make_record("digits", method, seed, labels=labels, order=order, **given)
                test = {task.key: {"accuracy": draw.uniform(0.8, 0.9)} for task in run.tasks}
                yield run.model_copy(update={"data": f"problem-{problem}", "test": test})


def write_curve(results: Path, record: Record) -> None:
    """The learning curve of a run; each has noise of its own, which no compression would shorten."""
    folder = run_folder(results, record.data, record.variant, record.seed)
    folder.mkdir(parents=True)
    draw = random.Random(f"{record.data} {record.variant} {record.seed}")
    keys = [task.key for task in record.tasks]
    head = ["epoch", "step", "seconds", *(f"validation/{key}/accuracy" for key in keys), "score"]
    lines = [",".join(head)]
    for epoch in range(1, EPOCHS + 1):
        scores = [0.85 * (1 - math.exp(-0.2 * epoch)) + draw.gauss(0, 0.01) for _ in keys]
        numbers = dict(zip(head, [epoch, 10 * epoch, 0.4 * epoch, *scores, sum(scores) / len(scores)], strict=True))
        numbers |= {column: score for column, (at, score) in selected_scores(record).items() if at == epoch}
        lines.append(",".join(map(repr, numbers.values())))
    (folder / CURVE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_records(results: Path, problems: int, rows: int, seeds: int) -> None:
    for record in many_records(problems, rows, seeds):
        write_curve(results, record)
        path = run_folder(results, record.data, record.variant, record.seed) / RECORD
        path.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")


def memory_mib(process: psutil.Process) -> float:
    """The memory of a process and its children that no other process shares, and of what they share a part each."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss / 2**20
        except psutil.Error:  # it has just ended
            continue
    return total


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    for name, default in (("problems", 10), ("rows", 50), ("seeds", 20), ("jobs", os.cpu_count() or 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results, out = Path(folder) / "results", Path(folder) / "reports"
        write_records(results, given.problems, given.rows, given.seeds)
        words = ["--results", str(results), "--out", str(out), "--jobs", str(given.jobs)]
        before, start, most = os.times(), time.perf_counter(), 0.0
        with subprocess.Popen([sys.executable, "-m", "bench.report", *words], cwd=ROOT) as command:
            while command.poll() is None:
                most = max(most, memory_mib(psutil.Process(command.pid)))
                time.sleep(2)
        seconds, after = time.perf_counter() - start, os.times()
        processors = after.children_user + after.children_system - before.children_user - before.children_system
        files = sum(path.is_file() for path in out.rglob("*"))
        page = (out / PAGE).stat().st_size / 2**20
        print(f"{given.problems * given.rows * given.seeds:,} runs, {given.jobs} processes: {seconds:.1f} s, ", end="")
        print(f"{processors:.1f} s of processors, {most:,.0f} MiB at most; {files} files, page of {page:.1f} MiB")


if __name__ == "__main__":
    main()

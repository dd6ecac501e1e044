"""Measures what training two runs at a time gains over one: the same runs, with one job and with two.

As a command, `python tests/efficiency.py --data-root DIR`, it prints the figure of docs/scale.md. Run it on a machine
that does nothing else: with fewer free cores than jobs, it measures the other programs.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
METHODS = ("ew", "uw", "pcgrad", "mgda")
SEEDS = ("0", "1", "2", "3")


def seconds(jobs: int, results: Path, data_root: Path) -> float:
    """Of the whole command that trains all runs, one thread each."""
    what = ("--method", *METHODS, "--data", "digits", "--seeds", *SEEDS, "--device", "cpu")
    how = ("--jobs", str(jobs), "--threads", "1", "--results", str(results), "--data-root", str(data_root))
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "bench.run", *what, *how], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Prints seconds of each round, and the median efficiency."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data-root", type=Path, required=True)
    arguments = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f}")
    found = []
    for _ in range(arguments.rounds):  # alternating, so that a slow minute hits both
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            alone = seconds(1, Path(one), arguments.data_root)
            together = seconds(2, Path(two), arguments.data_root)
        found.append(alone / (2 * together))
        print(f"one at a time {alone:.1f} s, two at a time {together:.1f} s: efficiency {found[-1]:.0%}")
    print(f"median efficiency of {len(METHODS) * len(SEEDS)} runs: {statistics.median(found):.0%}")


if __name__ == "__main__":
    main()

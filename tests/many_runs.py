"""Measures what planning a study of 10,000 runs takes, of which 9,000 are finished.

As a command, `python tests/many_runs.py --data-root DIR`, it prints the figures of docs/scale.md. One run is trained;
the other records are copies of its files, each with the settings, names and versions of a run of the study.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import ROOT
from bench.engine.recording import _identity
from bench.records.items import ITEMS
from bench.records.record import Record
from bench.records.store import CURVE, RECORD, read_run, run_folder
from bench.spec.resolve import RunSpec, resolve
from methods import METHODS

RATES = (0.003, 0.005, 0.01, 0.02, 0.03)
DECAYS = (0.0, 1e-5, 1e-4, 1e-3, 1e-2)
KEPT_SHARE = 0.9


def study_of(rows: int, seeds: int) -> str:
    """A study with this many rows: methods, each with learning rates and weight decays of its own."""
    methods = [name for name in METHODS if name not in ("frozen", "stl")]
    grid = [(method, rate, decay) for rate, decay in product(RATES, DECAYS) for method in methods][:rows]
    lines = [
        f"  - {{label: '{method} {rate} {decay}', method: {method}, "
        f"set: {{train.lr: {rate}, train.weight_decay: {decay}}}}}"
        for method, rate, decay in grid
    ]
    head = (
        f"title: Many runs\ndata: [digits]\nseeds: {list(range(seeds))}\ntables:\n- name: all\n  title: All\n  rows:\n"
    )
    return head + "\n".join(lines) + "\n"


def write_kept(results: Path, example: Path, rows: int, seeds: int) -> None:
    """The files of all runs but those of the last seeds, made of the files of a run that was trained."""
    record = read_run(example)
    assert record is not None
    files = {name: (example / name).read_bytes() for name in (CURVE, ITEMS)}
    for spec in _specs(rows, round(KEPT_SHARE * seeds)):
        folder = run_folder(results, *spec.key)
        folder.mkdir(parents=True)
        made = Record.model_validate({**record.model_dump(), **_identity(spec)})
        made.environment.update({name: record.environment[name] for name in ("device", "threads")})
        (folder / RECORD).write_text(made.model_dump_json(indent=1) + "\n", encoding="utf-8")
        for name, content in files.items():
            (folder / name).write_bytes(content)


def _specs(rows: int, seeds: int) -> Iterator[RunSpec]:
    methods = [name for name in METHODS if name not in ("frozen", "stl")]
    grid = [(method, rate, decay) for rate, decay in product(RATES, DECAYS) for method in methods][:rows]
    for (method, rate, decay), seed in product(grid, range(seeds)):
        yield resolve("digits", method, seed=seed, assignments={"train.lr": rate, "train.weight_decay": decay})


def measure(*words: str) -> str:
    """Runs a command; its seconds from start to end, and those of a processor, which others don't lengthen as much."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{wall:.1f} s, of a processor {used:.1f} s"


def main() -> None:
    """Prints files, bytes and seconds."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="where to keep study and results; they are made if absent")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        study, results = folder / "many.yaml", folder / "results"
        where = ("--data-root", str(arguments.data_root))
        if not results.is_dir():
            study.write_text(study_of(arguments.rows, arguments.seeds), encoding="utf-8")
            one = (
                "--data",
                "digits",
                "--method",
                "ew",
                "--seeds",
                "0",
                "--results",
                str(folder / "one"),
                "--jobs",
                "1",
            )
            measure("bench.run", *one, *where)
            write_kept(results, folder / "one" / "digits" / "ew" / "seed-0", arguments.rows, arguments.seeds)
        found = [path for path in results.rglob("*") if path.is_file()]
        print(f"{len(found):,} files, {sum(path.stat().st_size for path in found) / 2**20:.0f} MiB")
        options = ("--study", str(study), "--results", str(results), *where)
        print(f"bench.run --dry-run: {measure('bench.run', *options, '--dry-run')}")
        print(f"bench.runs status: {measure('bench.runs', 'status', *options)}")
        print(f"bench.runs list: {measure('bench.runs', 'list', '--results', str(results))}")


if __name__ == "__main__":
    main()

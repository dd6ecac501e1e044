"""What the commands take on data sets of full size: from the check of the files to the tables of finished runs.

The trees have the names and counts of the real data sets. The images are tiny, but prepared in the size of real runs,
so everything that comes after the decoding of files has the real size.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.cli.parser import CommandParser
from bench.cli.request import add_how, add_what, requested
from bench.engine.evaluate import EVALUATION_BATCH
from bench.launch.config import LaunchConfig
from bench.launch.local import run_locally
from bench.launch.messages import Event
from bench.profiling.processes import CommandFailed, Usage, run_measured
from bench.profiling.trees import TREES, Tree, write_tree
from bench.spec.planning import make_plan
from datasets import DATASETS
from datasets.decoding.prepare import Preparation, preparing

JOBS = 2
# In the size of real runs, but with a small network and small batches, whose memory leaves that of the data visible.
SIZE = (224, 224)
BATCH = 16
BACKBONE = "small_face"
# `bench.plan` times training steps for at most so many seconds.
PLAN_SECONDS = 10
# Epochs of the run on few images, so that its memory is sampled often enough.
_EPOCHS_OF_FEW = 3


@dataclass(frozen=True)
class Measured:
    """The commands on one data set.

    writing: seconds that the tree took to write.
    usages: by command, in the order in which they ran.
    start_up: seconds from the start of the slower of two training processes to its first step.
    anonymous: MiB of each training process at its peak, the larger of two; None where the system doesn't tell.
    few_anonymous: the same in a run on few images.
    """

    data: str
    images: int
    writing: float
    usages: Mapping[str, Usage]
    start_up: float
    anonymous: float | None
    few_anonymous: float | None


def measure(names: Sequence[str], on_command: Callable[[str], None] = lambda text: None) -> list[Measured]:
    """One run of every command on each of these trees, in temporary folders.

    on_command: called with what comes next.

    Raises:
        CommandFailed: a command ended with an error.
    """
    return [_measure_one(name, TREES[name], on_command) for name in names]


def _measure_one(name: str, tree: Tree, on_command: Callable[[str], None]) -> Measured:
    with TemporaryDirectory() as whole, TemporaryDirectory() as small:
        on_command(f"{name}: writing {tree.images:,} images")
        start = time.perf_counter()
        write_tree(Path(whole) / DATASETS[name].folder[0], tree)
        writing = time.perf_counter() - start
        usages = {}
        for label, words in _commands(name, Path(whole)).items():
            on_command(f"{name}: {label}")
            usages[label] = run_measured([sys.executable, "-m", *words])
        on_command(f"{name}: start of training")
        start_up = _start_up(name, Path(whole))
        few = tree.few(EVALUATION_BATCH)  # so that evaluation takes as much memory
        on_command(f"{name}: the same run on {few.images:,} images")
        write_tree(Path(small) / DATASETS[name].folder[0], few)
        run_measured([sys.executable, "-m", "bench.data", *_prepare(name, Path(small))])
        usage = run_measured([sys.executable, "-m", "bench.run", *_run(name, Path(small), _EPOCHS_OF_FEW)])
    return Measured(
        data=name,
        images=tree.images,
        writing=writing,
        usages=usages,
        start_up=start_up,
        anonymous=max(usages["run"].anonymous.values(), default=None),
        few_anonymous=max(usage.anonymous.values(), default=None),
    )


def _commands(name: str, root: Path) -> dict[str, list[str]]:
    """Words after `python -m`, by the label of the command."""
    return {
        "check": ["bench.data", "check", name, *_places(root)],
        "prepare": ["bench.data", *_prepare(name, root)],
        "plan": ["bench.plan", *_run(name, root), "--budget", str(PLAN_SECONDS)],
        "run": ["bench.run", *_run(name, root)],
        "report": ["bench.report", "--results", str(root / "results"), "--out", str(root / "reports")],
    }


def _places(root: Path) -> list[str]:
    return ["--data-root", str(root), "--cache-dir", str(root / "cache")]


def _prepare(name: str, root: Path) -> list[str]:
    return ["prepare", name, "--image-size", *map(str, SIZE), *_places(root)]


def _run(name: str, root: Path, epochs: int = 1, results: str = "results") -> list[str]:
    """Two runs of EW."""
    height, width = SIZE
    settings = {
        "backbone.name": BACKBONE,
        "backbone.weights": "none",
        "train.batch_size": BATCH,
        "data.image_size": f"[{height},{width}]",
    }
    what = ["--method", "ew", "--data", name, "--seeds", "0", "1", "--epochs", str(epochs)]
    how = ["--device", "cpu", "--jobs", str(JOBS), "--results", str(root / results), *_places(root)]
    return [*what, *how, "--set", *(f"{key}={value}" for key, value in settings.items())]


def _start_up(name: str, root: Path) -> float:
    """In a process of its own: training processes import the main module of the process that starts them."""
    code = f"from {__name__} import print_start_up; print_start_up()"
    words = _run(name, root, results="started")
    seconds: float = json.loads(run_measured([sys.executable, "-c", code, *words]).output.splitlines()[-1])
    return seconds


class _AllStarted(Exception):
    pass


def print_start_up() -> None:
    """Starts the runs of the command line, all at once, and prints how many seconds the slowest took to start.

    A run has started when it has read its data and built its network: its first training step is next. No run goes on;
    one that has begun to train leaves a checkpoint.
    """
    parser = CommandParser()
    add_what(parser)
    add_how(parser)
    arguments = parser.parse_args()
    request, results = requested(arguments)
    with preparing(Preparation(cache=arguments.cache_dir)):
        plan = make_plan(request, arguments.data_root, results)
    launch = LaunchConfig(plan.folders, results, arguments.device, arguments.threads, arguments.cache_dir, plan.current)
    started: dict[int, float] = {}
    start = time.perf_counter()

    def note(event: Event) -> None:
        if event.record is not None and event.record.status == "failed":
            raise CommandFailed(f"expected a run that starts, found one that failed: {event.record.reason}")
        if event.kind == "epoch":
            started.setdefault(event.spec.seed, time.perf_counter() - start)
        if len(started) == len(plan.pending):
            raise _AllStarted

    try:
        run_locally(plan.pending, launch, len(plan.pending), note)
    except _AllStarted:
        print(json.dumps(max(started.values())))

"""Plans the runs of a request and trains them: what bench.run and bench.tune share."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError, Namespace, _ArgumentGroup
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from bench.cli.forced import forced_runs
from bench.cli.launchers import add_launchers, check_launcher, ray_options
from bench.cli.options import not_negative, positive
from bench.cli.placement import check_per_device, placed, worker_devices
from bench.cli.progress import RunProgress
from bench.cli.request import jobs_at_a_time
from bench.cli.submission import submit
from bench.cli.training_plan import TrainingCommand, describe, plan_of
from bench.engine.build import build_network
from bench.engine.checkpoint import checkpoint_remarks
from bench.engine.context import CHECKPOINT_EVERY
from bench.engine.device import DeviceUnavailable, choose_device
from bench.engine.hardware import hardware_errors, hardware_remarks
from bench.engine.signals import exit_code
from bench.engine.storage import storage_errors
from bench.launch.cluster import ClusterUnavailable
from bench.launch.config import EXPIRY, RETRIES, LaunchConfig
from bench.launch.local import WorkersUnavailable, run_locally, start_server
from bench.launch.messages import Event
from bench.launch.order import longest_first
from bench.launch.ray_cluster import run_on_ray
from bench.launch.run_queue import clear_finished
from bench.launch.shards import divide
from bench.launch.tensorboard import require_tensorboard
from bench.records.store import TENSORBOARD, RecordError
from bench.spec.lookup import UnknownName
from bench.spec.planning import Again, Plan, Which
from bench.spec.request import PlanError, Request
from bench.spec.resolve import RunKey, RunSpec
from bench.spec.run_specs import every_run
from bench.spec.shown import shown
from bench.spec.study import StudyError
from datasets.contract import DataError
from methods.architectures.backbones import WeightsUnavailable

FAILED = 1  # the exit code if a run failed
# What a command that trains reports in words, with exit code 2.
TRAINING_ERRORS: tuple[type[Exception], ...] = (
    PlanError, StudyError, UnknownName, DataError, RecordError, DeviceUnavailable, WeightsUnavailable,
    WorkersUnavailable, ClusterUnavailable,
)  # fmt: skip


def add_training(how: _ArgumentGroup) -> None:
    """Adds the options of commands that train."""
    how.add_argument("--dry-run", action="store_true", help="list the runs without training them")
    how.add_argument(
        "--per-device", type=positive, metavar="K", help="K runs at a time on each accelerator, instead of --jobs"
    )
    how.add_argument(
        "--retries", type=not_negative, default=RETRIES, metavar="N",
        help=f"how often to try a run again whose process died (default: {RETRIES})",
    )  # fmt: skip
    how.add_argument(
        "--checkpoint-every", type=not_negative, default=CHECKPOINT_EVERY, metavar="SECONDS",
        help=f"how often a run saves where it is, beside the end of every epoch (default: {CHECKPOINT_EVERY:g})",
    )  # fmt: skip
    how.add_argument(
        "--logger", type=logger, metavar="tensorboard",
        help="also write the numbers of every epoch for TensorBoard, into the folders of the runs (extra tensorboard)",
    )  # fmt: skip
    how.add_argument(
        "--expiry", type=positive, default=EXPIRY, metavar="SECONDS",
        help=f"without a sign of life, after which other processes may take over a run (default: {EXPIRY:g})",
    )  # fmt: skip
    add_launchers(how)


def logger(text: str) -> str:
    """Parses the name of a logger, whose package must be there."""
    if text != TENSORBOARD:
        raise ArgumentTypeError(f"expected {TENSORBOARD}, found {shown(text)}")
    try:
        require_tensorboard()
    except ImportError as error:
        raise ArgumentTypeError(str(error)) from error
    return text


def train_request(
    arguments: Namespace, request: Request, results: Path, console: Console, which: Which = "none"
) -> int:
    """Trains the runs of a request that are not in the results yet, or lists them with --dry-run.

    Frozen twins need the runs that they replay: what is left is planned again until nothing new appears.
    which: of the runs that are in the results, which are trained again.

    Returns the exit code: 0, 1 if a run failed, or that of an interruption.

    Raises:
        One of TRAINING_ERRORS.
    """
    check_launcher(arguments)
    shard, submits = arguments.shard, arguments.launcher == "slurm"
    forced = forced_runs(request, results, str(shard or "")) if which == "all" and not submits else None
    if forced and forced.done:
        console.print(f"--force goes on: {len(forced.done)} runs were trained again before it was interrupted.")
    # The machine that submits jobs may lack the device that they have.
    device = torch.device("cpu") if submits else choose_device(arguments.device)
    division = divide(every_run(request, arguments.data_root, results), shard.count) if shard else None
    code = _rounds(TrainingCommand(arguments, request, results, console, device, which, forced, division))
    if forced and not code and not arguments.dry_run:
        forced.end()
    return code


def _rounds(command: TrainingCommand) -> int:
    """Trains what can be planned, round after round; the exit code."""
    tried, said, code = set[RunKey](), set[str](), 0
    before = command.forced.done if command.forced else set[RunKey]()
    while True:
        plan = plan_of(command, Again(command.which, frozenset(tried | before)))
        for remark in [remark for remark in plan.remarks if remark not in said]:
            command.console.print(remark)
        new = [spec for spec in plan.pending if spec.key not in tried]
        if tried and not new:
            return code
        code = max(code, _round(command, replace(plan, pending=new)))
        once = command.arguments.dry_run or command.arguments.launcher == "slurm"
        if once or not plan.waiting or code > FAILED:
            return code
        tried |= {spec.key for spec in new}
        said |= set(plan.remarks)


def _round(command: TrainingCommand, plan: Plan) -> int:
    """Trains the pending runs of a plan, or lists them; the exit code."""
    arguments, results, console, device = command.arguments, command.results, command.console, command.device
    submits = arguments.launcher == "slurm"
    if not submits:
        _check_hardware(plan.pending, device, console)
        check_per_device(arguments, device)
    devices = worker_devices(arguments, device, command.request) if arguments.launcher == "local" else []
    jobs = len(devices) or jobs_at_a_time(arguments, device, command.request)
    expected = longest_first(plan.pending, plan.records, plan.current)
    if jobs > 1:
        plan = replace(plan, pending=[run.spec for run in expected])
    if arguments.dry_run:
        unwritable = storage_errors(plan.pending, results, jobs)
        for remark in [*checkpoint_remarks(plan.pending, results, plan.current, device), *unwritable]:
            console.print(remark)
        if len(plan.pending) > 1 and len(devices) > 1:
            console.print(f"{placed(devices)}, the longest first:")
        describe(plan, {run.spec.key: run.seconds for run in expected}, console)
        return 0
    launch = LaunchConfig(
        plan.folders,
        results,
        str(device),
        arguments.threads,
        cache=arguments.cache_dir,
        current=plan.current,
        retries=arguments.retries,
        expiry=float(arguments.expiry),
        again=frozenset(spec.key for spec in plan.again),
        logger=arguments.logger or "",
        checkpoint_every=float(arguments.checkpoint_every),
        devices=tuple(devices),
        trials=command.request.trials,
    )
    clear_finished(plan.kept, launch)
    if not plan.pending:
        console.print(f"All {len(plan.kept)} runs are already in {results}; nothing to train.")
        return 0
    if arguments.launcher == "local":
        start_server(arguments.threads)  # workers import torch while this process builds networks
    if unwritable := storage_errors(plan.pending, results, jobs):
        raise PlanError("\n".join(unwritable))
    for spec in {(s.data, s.settings.backbone): s for s in plan.pending}.values():
        build_network(spec, device)  # downloads weights before several workers need them at once
    if submits:
        return 0 if submit(command, plan) else FAILED
    return _train(command, plan, launch, jobs)


def _check_hardware(specs: Sequence[RunSpec], device: torch.device, console: Console) -> None:
    """Prints what to know of the device. Raises PlanError for runs that are impossible on it."""
    for remark in hardware_remarks(specs, device):
        console.print(remark)
    if impossible := hardware_errors(specs, device):
        raise PlanError("\n".join(impossible))


def _train(command: TrainingCommand, plan: Plan, launch: LaunchConfig, jobs: int) -> int:
    """Trains the pending runs and prints how they ended; the exit code."""
    console, forced = command.console, command.forced
    again = f" ({len(launch.again)} of them again)" if launch.again else ""
    to_train = f"{len(plan.pending)} runs to train{again}"
    ray = ray_options(command.arguments) if command.arguments.launcher == "ray" else None
    if ray is None:
        where = placed(launch.devices)
    else:
        where = f"{ray.jobs or 'as many as there is room for'} at a time on {launch.device} of a Ray cluster"
    console.print(f"{to_train}, {len(plan.kept)} already kept; {where}.")
    statuses: Counter[str] = Counter()
    with RunProgress(console, plan.pending, launch.results) as progress:

        def follow(event: Event) -> None:
            progress(event)
            if event.record is not None:
                statuses[event.record.status] += 1
                if forced and event.record.status != "failed":
                    forced.add(event.spec)

        try:
            if ray is None:
                run_locally(plan.pending, launch, jobs, follow)
            else:
                run_on_ray(plan.pending, launch, ray, follow)
        except KeyboardInterrupt as stop:
            progress.bars.stop()
            print(
                f"Interrupted: {statuses['done']} runs are finished and kept; the same command continues the others "
                "from their last step.",
                file=sys.stderr,
            )
            return exit_code(stop)
    counts = ", ".join(f"{statuses[status]} {status}" for status in ("done", "diverged", "failed") if statuses[status])
    console.print(f"{counts}. Records: {launch.results}")
    return FAILED if statuses["failed"] else 0

"""Plans the runs of a request and trains them: what bench.run and bench.tune share."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError, Namespace, _ArgumentGroup
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from bench.cli.forced import ForcedRuns, forced_runs
from bench.cli.options import not_negative, positive
from bench.cli.placement import placed, worker_devices
from bench.cli.progress import DecodingProgress, RunProgress, run_name
from bench.engine.build import build_network
from bench.engine.checkpoint import checkpoint_remarks
from bench.engine.context import CHECKPOINT_EVERY
from bench.engine.device import DeviceUnavailable, choose_device
from bench.engine.hardware import hardware_errors, hardware_remarks
from bench.engine.signals import exit_code
from bench.engine.storage import storage_errors
from bench.launch.config import EXPIRY, RETRIES, LaunchConfig
from bench.launch.local import WorkersUnavailable, run_locally, start_server
from bench.launch.messages import Event
from bench.launch.order import longest_first
from bench.launch.run_queue import clear_finished
from bench.launch.tensorboard import require_tensorboard
from bench.records.store import TENSORBOARD, RecordError
from bench.spec.lookup import UnknownName
from bench.spec.planning import Again, Plan, PlanError, Request, Which, make_plan
from bench.spec.resolve import RunKey
from bench.spec.shown import shown
from bench.spec.study import StudyError
from datasets.contract import DataError
from datasets.decoding.prepare import Preparation, preparing
from methods.architectures.backbones import WeightsUnavailable

FAILED = 1  # the exit code if a run failed
# What a command that trains reports in words, with exit code 2.
TRAINING_ERRORS: tuple[type[Exception], ...] = (
    PlanError, StudyError, UnknownName, DataError, RecordError, DeviceUnavailable, WeightsUnavailable,
    WorkersUnavailable,
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


def logger(text: str) -> str:
    """Parses the name of a logger, whose package must be there."""
    if text != TENSORBOARD:
        raise ArgumentTypeError(f"expected {TENSORBOARD}, found {shown(text)}")
    try:
        require_tensorboard()
    except ImportError as error:
        raise ArgumentTypeError(str(error)) from error
    return text


@dataclass(frozen=True)
class _Command:
    """What the rounds of a command share. forced: how far it has come, with --force."""

    arguments: Namespace
    request: Request
    results: Path
    console: Console
    device: torch.device
    which: Which
    forced: ForcedRuns | None


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
    forced = forced_runs(request, results) if which == "all" else None
    if forced and forced.done:
        console.print(f"--force goes on: {len(forced.done)} runs were trained again before it was interrupted.")
    device = choose_device(arguments.device)
    code = _rounds(_Command(arguments, request, results, console, device, which, forced))
    if forced and not code and not arguments.dry_run:
        forced.end()
    return code


def _rounds(command: _Command) -> int:
    """Trains what can be planned, round after round; the exit code."""
    tried, said, code = set[RunKey](), set[str](), 0
    before = command.forced.done if command.forced else set[RunKey]()
    while True:
        plan = _plan(command, Again(command.which, frozenset(tried | before)))
        for remark in [remark for remark in plan.remarks if remark not in said]:
            command.console.print(remark)
        new = [spec for spec in plan.pending if spec.key not in tried]
        if tried and not new:
            return code
        code = max(code, _round(command, replace(plan, pending=new)))
        if command.arguments.dry_run or not plan.waiting or code > FAILED:
            return code
        tried |= {spec.key for spec in new}
        said |= set(plan.remarks)


def _round(command: _Command, plan: Plan) -> int:
    """Trains the pending runs of a plan, or lists them; the exit code."""
    arguments, results, console, device = command.arguments, command.results, command.console, command.device
    for remark in hardware_remarks(plan.pending, device):
        console.print(remark)
    if impossible := hardware_errors(plan.pending, device):
        raise PlanError("\n".join(impossible))
    devices = worker_devices(arguments, device, command.request)
    jobs = len(devices)
    expected = longest_first(plan.pending, plan.records, plan.current)
    if jobs > 1:
        plan = replace(plan, pending=[run.spec for run in expected])
    if arguments.dry_run:
        unwritable = storage_errors(plan.pending, results, jobs)
        for remark in [*checkpoint_remarks(plan.pending, results, plan.current, device), *unwritable]:
            console.print(remark)
        if len(plan.pending) > 1 and jobs > 1:
            console.print(f"{placed(devices)}, the longest first:")
        _describe(plan, {run.spec.key: run.seconds for run in expected}, console)
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
    )
    clear_finished(plan.kept, launch)
    if not plan.pending:
        console.print(f"All {len(plan.kept)} runs are already in {results}; nothing to train.")
        return 0
    start_server(arguments.threads)  # workers import torch while this process builds networks
    if unwritable := storage_errors(plan.pending, results, jobs):
        raise PlanError("\n".join(unwritable))
    for spec in {(s.data, s.settings.backbone): s for s in plan.pending}.values():
        build_network(spec, device)  # downloads weights before several workers need them at once
    return _train(command, plan, launch, jobs)


def _describe(plan: Plan, seconds: Mapping[RunKey, float | None], console: Console) -> None:
    """Lists the pending runs in the order in which they would start."""
    for spec in plan.pending:
        settings = "".join(f" {key}={value}" for key, value in spec.overrides.items())
        known = seconds[spec.key]
        about = "" if known is None else f", about {known:.0f} s"
        console.print(f"would run {run_name(spec)}, {spec.settings.train.epochs} epochs{about}{settings}")
    for spec in plan.waiting:
        console.print(f"would then run {run_name(spec)}: {spec.label}, once its weights are known")
    waiting = f", {len(plan.waiting)} frozen twins that wait for other runs" if plan.waiting else ""
    again = f" ({len(plan.again)} of them again)" if plan.again else ""
    console.print(f"{len(plan.pending)} runs to train{again}, {len(plan.kept)} already kept{waiting}.")


def _plan(command: _Command, again: Again) -> Plan:
    """The plan; decodes all data once, unless nothing may be made: invalid files stop the command before any training.

    Nothing is read into this process: workers map the decoded arrays into memory.
    """
    arguments, console = command.arguments, command.console
    make = not arguments.dry_run
    with DecodingProgress(console, only_bars=True) as decoding:
        how = Preparation(report=decoding, cache=arguments.cache_dir, allowed=make)
        with preparing(how):
            plan = make_plan(command.request, arguments.data_root, command.results, make, again)
    for name in dict.fromkeys(spec.data for spec in plan.pending if spec.data in plan.folders):
        console.print(f"{name}: found in {plan.folders[name]}.")
    return plan


def _train(command: _Command, plan: Plan, launch: LaunchConfig, jobs: int) -> int:
    """Trains the pending runs and prints how they ended; the exit code."""
    console, forced = command.console, command.forced
    again = f" ({len(launch.again)} of them again)" if launch.again else ""
    to_train = f"{len(plan.pending)} runs to train{again}"
    console.print(f"{to_train}, {len(plan.kept)} already kept; {placed(launch.devices)}.")
    statuses: Counter[str] = Counter()
    with RunProgress(console, plan.pending, launch.results) as progress:

        def follow(event: Event) -> None:
            progress(event)
            if event.record is not None:
                statuses[event.record.status] += 1
                if forced and event.record.status != "failed":
                    forced.add(event.spec)

        try:
            run_locally(plan.pending, launch, jobs, follow)
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

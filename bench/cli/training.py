"""Plans the runs of a request and trains them: what bench.run and bench.tune share."""

from __future__ import annotations

import sys
from argparse import Namespace, _ArgumentGroup
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from bench.cli.options import not_negative, positive
from bench.cli.progress import DecodingProgress, RunProgress, run_name
from bench.cli.request import jobs_at_a_time
from bench.engine.build import build_network
from bench.engine.checkpoint import checkpoint_remarks
from bench.engine.device import DeviceUnavailable, choose_device
from bench.engine.hardware import hardware_errors, hardware_remarks
from bench.engine.signals import exit_code
from bench.engine.storage import storage_errors
from bench.launch.config import EXPIRY, RETRIES, LaunchConfig
from bench.launch.local import WorkersUnavailable, run_locally, start_server
from bench.launch.messages import Event
from bench.launch.run_queue import clear_finished
from bench.records.store import RecordError
from bench.spec.lookup import UnknownName
from bench.spec.planning import Plan, PlanError, Request, make_plan
from bench.spec.resolve import RunSpec
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
        "--retries", type=not_negative, default=RETRIES, metavar="N",
        help=f"how often to try a run again whose process died (default: {RETRIES})",
    )  # fmt: skip
    how.add_argument(
        "--expiry", type=positive, default=EXPIRY, metavar="SECONDS",
        help=f"without a sign of life, after which other processes may take over a run (default: {EXPIRY:g})",
    )  # fmt: skip


def train_request(arguments: Namespace, request: Request, results: Path, console: Console) -> int:
    """Trains the runs of a request that are not in the results yet, or lists them with --dry-run.

    Frozen twins need the runs that they replay: what is left is planned again until nothing new appears.

    Returns the exit code: 0, 1 if a run failed, or that of an interruption.

    Raises:
        One of TRAINING_ERRORS.
    """
    device = choose_device(arguments.device)
    tried, said, code = set[tuple[str, str, int]](), set[str](), 0
    while True:
        plan = _plan(arguments, request, results, console)
        for remark in [remark for remark in plan.remarks if remark not in said]:
            console.print(remark)
        new = [spec for spec in plan.pending if _key(spec) not in tried]
        if tried and not new:
            return code
        code = max(code, _round(arguments, device, request, replace(plan, pending=new), results, console))
        if arguments.dry_run or not plan.waiting or code > FAILED:
            return code
        tried |= set(map(_key, new))
        said |= set(plan.remarks)


def _key(spec: RunSpec) -> tuple[str, str, int]:
    return spec.data, spec.variant, spec.seed


def _round(
    arguments: Namespace, device: torch.device, request: Request, plan: Plan, results: Path, console: Console
) -> int:
    """Trains the pending runs of a plan, or lists them; the exit code."""
    for remark in hardware_remarks(plan.pending, device):
        console.print(remark)
    if impossible := hardware_errors(plan.pending, device):
        raise PlanError("\n".join(impossible))
    jobs = jobs_at_a_time(arguments, device, request)
    if arguments.dry_run:
        unwritable = storage_errors(plan.pending, results, jobs)
        for remark in [*checkpoint_remarks(plan.pending, results, plan.current, device), *unwritable]:
            console.print(remark)
        _describe(plan, console)
        return 0
    launch = LaunchConfig(
        plan.folders,
        results,
        str(device),
        arguments.threads,
        arguments.cache_dir,
        plan.current,
        arguments.retries,
        float(arguments.expiry),
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
    return _train(plan, launch, jobs, console)


def _describe(plan: Plan, console: Console) -> None:
    for spec in plan.pending:
        settings = " ".join(f"{key}={value}" for key, value in spec.overrides.items())
        console.print(f"would run {run_name(spec)}, {spec.settings.train.epochs} epochs {settings}".rstrip())
    for spec in plan.waiting:
        console.print(f"would then run {run_name(spec)}: {spec.label}, once its weights are known")
    waiting = f", {len(plan.waiting)} frozen twins that wait for other runs" if plan.waiting else ""
    console.print(f"{len(plan.pending)} runs to train, {len(plan.kept)} already kept{waiting}.")


def _plan(arguments: Namespace, request: Request, results: Path, console: Console) -> Plan:
    """The plan; decodes all data once, unless nothing may be made: invalid files stop the command before any training.

    Nothing is read into this process: workers map the decoded arrays into memory.
    """
    with DecodingProgress(console, only_bars=True) as decoding:
        how = Preparation(report=decoding, cache=arguments.cache_dir, allowed=not arguments.dry_run)
        with preparing(how):
            plan = make_plan(request, arguments.data_root, results, make_data=not arguments.dry_run)
    for name in dict.fromkeys(spec.data for spec in plan.pending if spec.data in plan.folders):
        console.print(f"{name}: found in {plan.folders[name]}.")
    return plan


def _train(plan: Plan, launch: LaunchConfig, jobs: int, console: Console) -> int:
    """Trains the pending runs and prints how they ended; the exit code."""
    console.print(
        f"{len(plan.pending)} runs to train, {len(plan.kept)} already kept; {jobs} at a time on {launch.device}.",
    )
    statuses: Counter[str] = Counter()
    with RunProgress(console, plan.pending, launch.results) as progress:

        def follow(event: Event) -> None:
            progress(event)
            if event.record is not None:
                statuses[event.record.status] += 1

        try:
            run_locally(plan.pending, launch, jobs, follow)
        except KeyboardInterrupt as stop:
            progress.bars.stop()
            print(
                f"Interrupted: {statuses['done']} runs are finished and kept; the same command continues the others "
                "from their last epoch.",
                file=sys.stderr,
            )
            return exit_code(stop)
    counts = ", ".join(f"{statuses[status]} {status}" for status in ("done", "diverged", "failed") if statuses[status])
    console.print(f"{counts}. Records: {launch.results}")
    return FAILED if statuses["failed"] else 0

"""Trains methods on data sets: python -m bench.run --method normal --data digits."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Sequence

import torch
from rich.console import Console

from bench.cli.options import INTERRUPTED, guarded, plain_console
from bench.cli.progress import DecodingProgress, RunProgress, run_name
from bench.cli.request import add_how, add_what, jobs_at_a_time, requested
from bench.engine.build import build_network
from bench.engine.device import DeviceUnavailable, choose_device
from bench.launch.local import Event, LaunchConfig, run_locally
from bench.spec.lookup import UnknownName
from bench.spec.planning import Plan, PlanError, make_plan
from bench.spec.study import StudyError
from datasets.contract import DataError
from datasets.decoding.prepare import Preparation, preparing
from methods.architectures.backbones import WeightsUnavailable


def main(argv: Sequence[str] | None = None) -> int:
    """0: all runs are kept. 1: a run failed. 2: bad input. 130: interrupted."""
    arguments = _parser().parse_args(argv)
    faults = (PlanError, StudyError, UnknownName, DataError, DeviceUnavailable, WeightsUnavailable)
    return guarded(lambda: _run(arguments), *faults)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m bench.run", description=__doc__)
    add_what(parser)
    add_how(parser).add_argument("--dry-run", action="store_true", help="say what would run, and stop")
    return parser


def _run(arguments: Namespace) -> int:
    console = plain_console()
    device = choose_device(arguments.device)
    request, results = requested(arguments)
    plan = make_plan(request, arguments.data_root, results, make_data=not arguments.dry_run)
    for remark in plan.remarks:
        console.print(remark)
    if arguments.dry_run:
        _describe(plan, console)
        return 0
    if not plan.pending:
        console.print(f"All {len(plan.kept)} runs are already in {results}; nothing to train.")
        return 0
    site = LaunchConfig(plan.folders, results, str(device), arguments.threads)
    return _execute(plan, site, device, jobs_at_a_time(arguments, device), console)


def _describe(plan: Plan, console: Console) -> None:
    for spec in plan.pending:
        settings = " ".join(f"{key}={value}" for key, value in spec.overrides.items())
        console.print(f"would run {run_name(spec)}, {spec.settings.train.epochs} epochs {settings}".rstrip())
    console.print(f"{len(plan.pending)} runs to train, {len(plan.kept)} already kept.")


def _execute(plan: Plan, site: LaunchConfig, device: torch.device, jobs: int, console: Console) -> int:
    """Trains what is pending and says how it ended."""
    for name in dict.fromkeys(spec.data for spec in plan.pending):
        console.print(f"{name}: found in {plan.folders[name]}.")
    # Once here, so that images are decoded and weights fetched before the workers need them, and so that bad files
    # are found before anything starts.
    with DecodingProgress(console, only_bars=True) as decoding, preparing(Preparation(report=decoding)):
        for spec in {(s.data, s.settings.data): s for s in plan.pending}.values():
            spec.info.read(plan.folders[spec.data], spec.settings.data)
    for spec in {(s.data, s.settings.backbone): s for s in plan.pending}.values():
        build_network(spec, device)
    console.print(
        f"{len(plan.pending)} runs to train, {len(plan.kept)} already kept; {jobs} at a time on {site.device}.",
    )
    statuses: Counter[str] = Counter()
    with RunProgress(console, plan.pending) as progress:

        def follow(event: Event) -> None:
            progress(event)
            if event.record is not None:
                statuses[event.record.status] += 1

        try:
            run_locally(plan.pending, site, jobs, follow)
        except KeyboardInterrupt:
            progress.bars.stop()
            print(
                f"Interrupted: {statuses['done']} runs are finished and kept; the same command goes on with the others "
                "from their last epoch.",
                file=sys.stderr,
            )
            return INTERRUPTED
    counts = ", ".join(f"{statuses[status]} {status}" for status in ("done", "diverged", "failed") if statuses[status])
    console.print(f"{counts}. Records: {site.results}")
    return 1 if statuses["failed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())

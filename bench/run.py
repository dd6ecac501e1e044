"""Trains methods on data sets: python -m bench.run --method normal --data digits."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from bench import ROOT
from bench.engine.build import build_network
from bench.engine.device import DeviceUnavailable, choose_device
from bench.launch.local import Event, Site, run_locally
from bench.lookup import UnknownName
from bench.options import INTERRUPTED, add_data_root, assignment, cores, guarded, plain_console, positive
from bench.planning import Plan, PlanError, Request, make_plan
from bench.prepare import DecodingProgress
from bench.progress import RunProgress, run_name
from bench.study import Study, StudyError, StudyRow, load_study
from datasets.contract import DataError
from datasets.decoding.prepare import Preparation, preparing
from methods import METHODS
from methods.architectures.backbones import WeightsUnavailable

DEFAULT_SEEDS = (0, 1, 2)


def main(argv: Sequence[str] | None = None) -> int:
    """0: all runs are kept. 1: a run failed. 2: bad input. 130: interrupted."""
    arguments = _parser().parse_args(argv)
    faults = (PlanError, StudyError, UnknownName, DataError, DeviceUnavailable, WeightsUnavailable)
    return guarded(lambda: _run(arguments), *faults)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m bench.run", description=__doc__)
    what = parser.add_argument_group("what to run")
    what.add_argument("--method", nargs="+", default=[], metavar="NAME", help=f"all, or any of {', '.join(METHODS)}")
    what.add_argument("--data", nargs="+", default=[], metavar="NAME", help="all, or names of data sets")
    what.add_argument("--study", metavar="NAME", help="a study of bench/studies instead of --method and --data")
    what.add_argument("--arch", metavar="NAME", help="the architecture, instead of the method's own")
    what.add_argument("--weighting", metavar="NAME", help="the weighting, instead of the method's own")
    what.add_argument("--seeds", nargs="+", type=int, metavar="N", help="default: 0 1 2")
    what.add_argument(
        "--set", nargs="+", action="extend", type=assignment, default=[], metavar="KEY=VALUE", dest="assignments"
    )
    what.add_argument("--epochs", type=positive, metavar="N", help="the same as --set train.epochs=N")
    what.add_argument("--splits", metavar="DIR", help="lists <domain>_<train|val|test>.txt; as --set data.splits=DIR")
    how = parser.add_argument_group("how to run")
    how.add_argument("--device", default="auto", metavar="auto|cpu|cuda")
    how.add_argument("--jobs", type=positive, metavar="N", help="runs at a time (default: one per core, one on a GPU)")
    how.add_argument("--threads", type=positive, default=1, metavar="N", help="threads per run (default: 1)")
    how.add_argument("--dry-run", action="store_true", help="say what would run, and stop")
    how.add_argument(
        "--results", type=Path, metavar="DIR", help="records (default: results, for some studies a folder in it)"
    )
    add_data_root(how)  # type: ignore[arg-type]
    return parser


def _run(arguments: Namespace) -> int:
    console = plain_console()
    device = choose_device(arguments.device)
    study = load_study(arguments.study) if arguments.study else None
    results = arguments.results or ROOT / "results" / (study.folder if study else "")
    request = _study_request(arguments, study) if study else _request(arguments)
    plan = make_plan(request, arguments.data_root, results, make_data=not arguments.dry_run)
    for remark in plan.remarks:
        console.print(remark)
    if arguments.dry_run:
        _describe(plan, console)
        return 0
    if not plan.pending:
        console.print(f"All {len(plan.kept)} runs are already in {results}; nothing to train.")
        return 0
    jobs = arguments.jobs or (cores() if device.type == "cpu" else 1)
    site = Site(plan.folders, results, str(device), arguments.threads)
    return _execute(plan, site, device, jobs, console)


def _assignments(arguments: Namespace) -> dict[str, Any]:
    epochs = {"train.epochs": arguments.epochs} if arguments.epochs else {}
    splits = {"data.splits": arguments.splits} if arguments.splits else {}
    return {**dict(arguments.assignments), **epochs, **splits}


def _study_request(arguments: Namespace, study: Study) -> Request:
    """A study with what the command line changes about it: settings on top, other data, seeds or methods."""
    rows = study.rows
    pair = {"arch": arguments.arch, "weighting": arguments.weighting}
    if arguments.method or arguments.arch or arguments.weighting:
        if study.tables:
            raise PlanError(
                f"Expected none of --method, --arch, --weighting with --study {arguments.study}: its rows name their "
                "own; --data, --seeds, --epochs and --set go with it."
            )
        rows = [StudyRow(method=name, set=study.set) for name in arguments.method or study.methods]
        rows = [row.model_copy(update=pair) for row in rows]
    rows = [row.model_copy(update={"set": {**row.set, **_assignments(arguments)}}) for row in rows]
    seeds = arguments.seeds or study.seeds
    if arguments.data:  # who names data sets wants them, and is told where one is missing
        return Request(rows, arguments.data, seeds)
    return Request(rows, study.data, seeds, study.only_found, study.otherwise)


def _request(arguments: Namespace) -> Request:
    if not arguments.data:
        raise PlanError(
            "Expected --data NAME (or --study NAME), found neither; `python -m bench.data list` shows them."
        )
    if not (arguments.method or arguments.arch or arguments.weighting):
        raise PlanError(f"Expected --method NAME, found none; known: all, {', '.join(METHODS)}.")
    rows = [
        StudyRow(method=name, arch=arguments.arch, weighting=arguments.weighting, set=_assignments(arguments))
        for name in arguments.method or [None]
    ]
    return Request(rows, arguments.data, arguments.seeds or DEFAULT_SEEDS)


def _describe(plan: Plan, console: Console) -> None:
    for spec in plan.pending:
        settings = " ".join(f"{key}={value}" for key, value in spec.overrides.items())
        console.print(f"would run {run_name(spec)}, {spec.train.epochs} epochs {settings}".rstrip())
    console.print(f"{len(plan.pending)} runs to train, {len(plan.kept)} already kept.")


def _execute(plan: Plan, site: Site, device: torch.device, jobs: int, console: Console) -> int:
    """Trains what is pending and says how it ended."""
    for name in dict.fromkeys(spec.data for spec in plan.pending):
        console.print(f"{name}: found in {plan.folders[name]}.")
    # Once here, so that images are decoded and weights fetched before the workers need them, and so that bad files
    # are found before anything starts.
    with DecodingProgress(console, only_bars=True) as decoding, preparing(Preparation(report=decoding)):
        for spec in {(s.data, s.data_settings): s for s in plan.pending}.values():
            spec.info.read(plan.folders[spec.data], spec.data_settings)
    for spec in {(s.data, s.backbone): s for s in plan.pending}.values():
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

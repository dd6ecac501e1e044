"""What a request would run and cost, in hours, disk and memory: python -m bench.plan --study paper.

Steps are timed on this machine, or taken from its records. With --device H200, or another accelerator that is not here,
they are estimated instead.
"""

from __future__ import annotations

import dataclasses
import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.cli.options import guarded, positive
from bench.cli.parser import CommandParser
from bench.cli.request import add_how, add_what, jobs_at_a_time, requested
from bench.engine.device import DeviceUnavailable, choose_device
from bench.forecasting import estimate_report
from bench.forecasting.estimate import Estimate, estimate
from bench.forecasting.forecast import Forecast, Machine, forecast
from bench.forecasting.peak_rates import HARDWARE, Hardware, hardware_named
from bench.forecasting.report import as_text
from bench.records.store import RecordError
from bench.spec.lookup import UnknownName
from bench.spec.request import PlanError, Request
from bench.spec.study import StudyError
from datasets.contract import DataError
from datasets.decoding.prepare import Preparation, preparing


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0, 2 for bad input, 130 if interrupted."""
    parser = CommandParser(prog="python -m bench.plan", description=__doc__)
    add_what(parser)
    how = add_how(parser, tuple(HARDWARE))
    how.add_argument("--budget", type=positive, default=120, metavar="SECONDS", help="for timing steps (default: 120)")
    how.add_argument("--layers", action="store_true", help="what each layer takes, on a device that is not here")
    how.add_argument("--json", action="store_true", help="print it as JSON, in seconds, bytes and MiB")
    arguments = parser.parse_args(argv)
    return guarded(
        lambda: _plan(arguments), PlanError, StudyError, UnknownName, RecordError, DataError, DeviceUnavailable
    )


def _plan(arguments: Namespace) -> int:
    hardware = hardware_named(arguments.device)
    if arguments.layers and hardware is None:
        raise PlanError(f"--layers: expected --device {' or '.join(HARDWARE)}, found a device of this machine.")
    request, results = requested(arguments)
    if hardware is None:
        forecast_here = _forecast(arguments, request, results)
        return _show(arguments, forecast_here, as_text(forecast_here))
    elsewhere = _estimate(arguments, request, results, hardware)
    return _show(arguments, elsewhere, estimate_report.as_text(elsewhere, layers=arguments.layers))


def _show(arguments: Namespace, found: Forecast | Estimate, text: str) -> int:
    print(json.dumps(dataclasses.asdict(found), indent=1, default=str) if arguments.json else text)
    return 0


def _forecast(arguments: Namespace, request: Request, results: Path) -> Forecast:
    device = choose_device(arguments.device)
    machine = Machine(device, arguments.threads, jobs_at_a_time(arguments, device, request))
    how = Preparation(cache=arguments.cache_dir, allowed=False)
    with Console(stderr=True).status("reading records") as status, preparing(how):
        return forecast(request, arguments.data_root, results, machine, arguments.budget, status.update)


def _estimate(arguments: Namespace, request: Request, results: Path, hardware: Hardware) -> Estimate:
    how = Preparation(cache=arguments.cache_dir, allowed=False)
    with Console(stderr=True).status("reading records") as status, preparing(how):
        return estimate(request, arguments.data_root, results, hardware, status.update)


if __name__ == "__main__":
    raise SystemExit(main())

"""What a request would run and cost on this machine, in hours, disk and memory: python -m bench.plan --study paper."""

from __future__ import annotations

import dataclasses
import json
from argparse import Namespace
from collections.abc import Sequence

from rich.console import Console

from bench.cli.options import guarded, positive
from bench.cli.parser import CommandParser
from bench.cli.request import add_how, add_what, jobs_at_a_time, requested
from bench.engine.device import DeviceUnavailable, choose_device
from bench.forecasting.forecast import Machine, forecast
from bench.forecasting.report import as_text
from bench.records.store import RecordError
from bench.spec.lookup import UnknownName
from bench.spec.planning import PlanError
from bench.spec.study import StudyError
from datasets.contract import DataError
from datasets.decoding.prepare import Preparation, preparing


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0, 2 for bad input, 130 if interrupted."""
    parser = CommandParser(prog="python -m bench.plan", description=__doc__)
    add_what(parser)
    how = add_how(parser)
    how.add_argument("--budget", type=positive, default=120, metavar="SECONDS", help="for timing steps (default: 120)")
    how.add_argument("--json", action="store_true", help="print it as JSON, in seconds, bytes and MiB")
    arguments = parser.parse_args(argv)
    return guarded(
        lambda: _plan(arguments), PlanError, StudyError, UnknownName, RecordError, DataError, DeviceUnavailable
    )


def _plan(arguments: Namespace) -> int:
    device = choose_device(arguments.device)
    request, results = requested(arguments)
    machine = Machine(device, arguments.threads, jobs_at_a_time(arguments, device, request))
    how = Preparation(cache=arguments.cache_dir, allowed=False)
    with Console(stderr=True).status("reading records") as status, preparing(how):
        found = forecast(request, arguments.data_root, results, machine, arguments.budget, status.update)
    print(json.dumps(dataclasses.asdict(found), indent=1, default=str) if arguments.json else as_text(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

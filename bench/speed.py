"""Speed: python -m bench.speed solvers | flow | data times weightings, NORMAL's flow, or reading, beside others."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

import torch

from bench.engine.device import DeviceUnavailable, choose_device
from bench.options import guarded, positive
from bench.timing import data as data_speed
from bench.timing import data_table, flow_table, solver_table
from bench.timing.flow import QUESTIONS, circumstances
from bench.timing.flow import measure as measure_flow
from bench.timing.race import Lap
from bench.timing.solvers import PEERS, TASKS, installed
from bench.timing.solvers import measure as measure_solvers


def main(argv: Sequence[str] | None = None) -> int:
    """0, or 2 for bad input."""
    parser = ArgumentParser(prog="python -m bench.speed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_solvers(commands.add_parser("solvers", help="one step of every weighting, in ms, and how exact it is"))
    _add_flow(commands.add_parser("flow", help="what NORMAL's flow costs: in a step, by tasks, inputs and solver"))
    _add_data(commands.add_parser("data", help="images a second, from prepared arrays and beside torchvision"))
    arguments = parser.parse_args(argv)
    command = {"solvers": _solvers, "flow": _flow, "data": _data}[arguments.command]
    return guarded(lambda: command(arguments), DeviceUnavailable)


def _add_solvers(parser: ArgumentParser) -> None:
    parser.add_argument("--tasks", type=positive, nargs="+", default=list(TASKS), metavar="M", help="numbers of tasks")
    parser.add_argument(
        "--against", choices=sorted(PEERS), nargs="*", default=sorted(PEERS), help="other packages (default: all)"
    )
    parser.add_argument("--rounds", type=positive, default=10, metavar="N", help="turns on each Gramian")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write solvers.md and solvers.csv there")


def _add_flow(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--questions", choices=list(QUESTIONS), nargs="+", default=list(QUESTIONS), help="which (default: all)"
    )
    parser.add_argument("--batch", type=positive, default=8, metavar="B", help="images of an input (default: 8)")
    parser.add_argument("--rounds", type=positive, default=20, metavar="N", help="turns of each way (default: 20)")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda")
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="of torch (default: 1)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write flow.md and flow.csv there")


def _add_data(parser: ArgumentParser) -> None:
    parser.add_argument("--images", type=positive, default=512, metavar="N", help="JPEGs to read (default: 512)")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="turns of each way (default: 5)")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda")
    parser.add_argument("--threads", type=positive, default=2, metavar="N", help="of torch (default: 2)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write data.md and data.csv there")


def _solvers(arguments: Namespace) -> int:
    missing = installed([PEERS[key] for key in arguments.against])
    peers = [peer for peer, why in missing.items() if not why]
    timings = list(measure_solvers(arguments.tasks, peers, arguments.rounds))
    solver_table.show(timings, missing)
    if arguments.out is not None:
        solver_table.write(timings, missing, arguments.out)
    return 0


def _flow(arguments: Namespace) -> int:
    device = choose_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    laps: list[Lap] = []
    for question in dict.fromkeys(arguments.questions):
        answer = measure_flow(question, arguments.batch, arguments.rounds, device)
        flow_table.show(question, answer)
        laps += answer
    where = circumstances(arguments.batch, arguments.rounds, device)
    print(where)
    if arguments.out is not None:
        flow_table.write(laps, where, arguments.out)
    return 0


def _data(arguments: Namespace) -> int:
    device = choose_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    turns = data_speed.measure(arguments.images, arguments.rounds, device)
    where = data_speed.circumstances(arguments.images, arguments.rounds, device)
    data_table.show(turns, where)
    if arguments.out is not None:
        data_table.write(turns, where, arguments.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

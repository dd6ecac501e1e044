"""Speed: python -m bench.speed solvers times every weighting beside its counterparts in other packages."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from bench.options import positive
from bench.solver_table import show, write
from bench.solvers import PEERS, TASKS, installed, measure


def main(argv: Sequence[str] | None = None) -> int:
    """0, or 2 for bad input."""
    parser = ArgumentParser(prog="python -m bench.speed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    solvers = commands.add_parser("solvers", help="one step of every weighting, in ms, and how exact it is")
    solvers.add_argument("--tasks", type=positive, nargs="+", default=list(TASKS), metavar="M", help="numbers of tasks")
    solvers.add_argument(
        "--against", choices=sorted(PEERS), nargs="*", default=sorted(PEERS), help="other packages (default: all)"
    )
    solvers.add_argument("--rounds", type=positive, default=10, metavar="N", help="turns on each Gramian")
    solvers.add_argument("--out", type=Path, metavar="DIR", help="also write solvers.md and solvers.csv there")
    arguments = parser.parse_args(argv)
    missing = installed([PEERS[key] for key in arguments.against])
    timings = list(measure(arguments.tasks, [peer for peer, why in missing.items() if not why], arguments.rounds))
    show(timings, missing)
    if arguments.out is not None:
        write(timings, missing, arguments.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

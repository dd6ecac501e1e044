"""Trains methods on data sets: python -m bench.run --method normal --data digits."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from bench.cli.options import guarded, plain_console
from bench.cli.parser import CommandParser
from bench.cli.request import add_how, add_what, refuse_trials, requested
from bench.cli.training import TRAINING_ERRORS, add_training, train_request
from bench.spec.planning import Which


def main(argv: Sequence[str] | None = None) -> int:
    """0: all runs are in the results. 1: a run failed. 2: bad input. 130: interrupted."""
    arguments = _parser().parse_args(argv)
    arguments.words = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _run(arguments), *TRAINING_ERRORS)


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m bench.run", description=__doc__)
    parser.set_defaults(command="bench.run")
    add_what(parser)
    how = add_how(parser)
    add_training(how)
    again = how.add_mutually_exclusive_group()
    again.add_argument("--stale", action="store_true", help="train runs of other versions of the code again")
    again.add_argument("--force", action="store_true", help="train all of these runs again, whatever is there")
    return parser


def _run(arguments: Namespace) -> int:
    request, results = requested(arguments)
    refuse_trials(request, results)
    which: Which = "all" if arguments.force else "stale" if arguments.stale else "none"
    return train_request(arguments, request, results, plain_console(), which)


if __name__ == "__main__":
    raise SystemExit(main())

"""Trains methods on data sets: python -m bench.run --method normal --data digits."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from bench.cli.options import guarded, plain_console
from bench.cli.parser import CommandParser
from bench.cli.request import add_how, add_what, requested
from bench.cli.training import TRAINING_ERRORS, add_training, train_request


def main(argv: Sequence[str] | None = None) -> int:
    """0: all runs are in the results. 1: a run failed. 2: bad input. 130: interrupted."""
    arguments = _parser().parse_args(argv)
    return guarded(lambda: _run(arguments), *TRAINING_ERRORS)


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m bench.run", description=__doc__)
    add_what(parser)
    add_training(add_how(parser))
    return parser


def _run(arguments: Namespace) -> int:
    request, results = requested(arguments)
    return train_request(arguments, request, results, plain_console())


if __name__ == "__main__":
    raise SystemExit(main())

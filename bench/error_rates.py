"""How often verdicts are wrong, and how often they find a difference: python -m bench.error_rates."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from bench import ROOT
from bench.analyses.error_rates.outcomes import POINT, error_table, outcome, record
from bench.analyses.error_rates.pools import pools
from bench.analyses.error_rates.simulation import Design
from bench.cli.options import folder, guarded, plain_console, positive, random_seed, share, whole_number
from bench.cli.parser import CommandParser
from bench.records.files import atomic_write_text
from bench.records.store import RecordError
from bench.reporting.render import aligned, write_table

SIMULATIONS = 2_000
RECORD = "error_rates.json"
LEAST_METHODS, MOST = 2, 1_000


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 2 if there are no records to resample, or they can't be read."""
    arguments = _parser().parse_args(argv)
    return guarded(lambda: _error_rates(arguments), RecordError)


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m bench.error_rates", description=__doc__)
    default = Design()
    parser.add_argument(
        "--results", type=folder, default=ROOT / "results" / "trust", metavar="DIR",
        help="records that are resampled, and the table of trials (default: results/trust)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=folder, default=ROOT / "reports" / "error_rates", metavar="DIR",
        help="default: reports/error_rates",
    )  # fmt: skip
    parser.add_argument(
        "--simulations", type=positive, default=SIMULATIONS, metavar="N", help=f"default: {SIMULATIONS}"
    )
    parser.add_argument(
        "--methods", type=whole_number(LEAST_METHODS, MOST), default=default.methods, metavar="N",
        help=f"tuned methods, with EW (default: {default.methods})",
    )  # fmt: skip
    parser.add_argument(
        "--trials", type=whole_number(2, MOST), default=default.trials, metavar="N",
        help=f"of each method (default: {default.trials})",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", type=whole_number(2, 100), default=default.seeds, metavar="N",
        help=f"of each row (default: {default.seeds})",
    )  # fmt: skip
    parser.add_argument(
        "--difference", type=share, default=POINT, metavar="X", help=f"that is planted (default: {POINT:g}, a point)"
    )
    parser.add_argument("--without-luck", action="store_true", help="judge settings, as if they were the methods")
    parser.add_argument("--seed", type=random_seed, default=0, metavar="N", help="of the simulations (default: 0)")
    return parser


def _error_rates(arguments: Namespace) -> int:
    design = Design(arguments.methods, arguments.trials, arguments.seeds, luck=not arguments.without_luck)
    what = (design, arguments.difference, arguments.simulations, arguments.seed)
    console = plain_console()
    found = []
    for pool in pools(arguments.results):
        console.print(
            f"{pool.label}: {len(pool.rows)} rows with {len(pool.seeds)} seeds; effects of {pool.effects_from}"
        )
        found.append(outcome(pool, *what))
    table = error_table(found, *what)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_table(arguments.out, table)
    atomic_write_text(arguments.out / RECORD, record(found, *what))
    console.print(f"\n{aligned(table)}\nTable and record: {arguments.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

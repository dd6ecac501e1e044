"""Every weighting on the published two-task problem in the plane: python -m bench.toy."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from bench import ROOT
from bench.analyses.toy.descent import Trajectory
from bench.analyses.toy.problem import SCALINGS, STARTS
from bench.analyses.toy.report import Recipe, all_trajectories, write_figure, write_tables
from bench.cli.options import (
    cores,
    folder,
    guarded,
    lookup_name,
    plain_console,
    positive,
    processes,
    random_seed,
    rate,
    share,
)
from bench.cli.parser import CommandParser
from bench.cli.progress import LiveProgress
from bench.reporting.render import aligned
from bench.spec.lookup import UnknownName, lookup
from methods import WEIGHTINGS

# Published: 1e-3 for 35000 steps (Nash-MTL) or 100000 (CAGrad). Learning rate × steps is between the two here.
LR = 5e-3
STEPS = 10_000


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 2 for bad input."""
    arguments = _parser().parse_args(argv)
    return guarded(lambda: _toy(arguments), UnknownName)


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m bench.toy", description=__doc__)
    parser.add_argument(
        "--method", nargs="+", type=lookup_name, metavar="NAME", help=f"default: all of {', '.join(WEIGHTINGS)}"
    )
    parser.add_argument(
        "--steps", type=positive, default=STEPS, metavar="N", help=f"default: {STEPS}; as published 35000"
    )
    parser.add_argument(
        "--lr", type=rate, default=LR, metavar="X", help=f"of Adam; default: {LR:g}; as published 0.001"
    )
    parser.add_argument(
        "--momentum", type=share, default=0.0, metavar="X", help="of a running mean of the weights (default: 0, none)"
    )
    parser.add_argument("--seed", type=random_seed, default=0, metavar="N", help="of methods that draw (default: 0)")
    parser.add_argument("--jobs", type=processes, metavar="N", help="weightings at a time (default: one per core)")
    parser.add_argument(
        "--out", type=folder, default=ROOT / "reports" / "toy", metavar="DIR", help="default: reports/toy"
    )
    return parser


def _toy(arguments: Namespace) -> int:
    asked = arguments.method or list(WEIGHTINGS)
    names = list(dict.fromkeys(lookup(WEIGHTINGS, "method", name) for name in asked))
    recipe = Recipe(arguments.steps, arguments.lr, arguments.seed, arguments.momentum)
    jobs = arguments.jobs or cores()
    arguments.out.mkdir(parents=True, exist_ok=True)
    console = plain_console()
    labels = ", ".join(WEIGHTINGS[name].label for name in names)
    console.print(f"{len(STARTS) * len(SCALINGS)} trajectories of {recipe.steps} steps, {jobs} at a time: {labels}")
    found: dict[str, tuple[Trajectory, ...]] = {}
    with LiveProgress(console) as progress:
        bar = progress.bars.add_task("weightings", total=len(names))
        for name, trajectories in all_trajectories(names, recipe, jobs):
            found[name] = trajectories
            write_figure(arguments.out, name, trajectories)
            reached = sum(trajectory.reached for trajectory in trajectories)
            count = f"[{len(found)}/{len(names)}] {WEIGHTINGS[name].label}"
            progress.print(f"{count}: {reached} of {len(trajectories)} trajectories reach the Pareto front")
            progress.bars.advance(bar)
    table = write_tables(arguments.out, {name: found[name] for name in names}, recipe)
    console.print(f"\n{aligned(table)}\nTables and figures: {arguments.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

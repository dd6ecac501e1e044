"""Whether NORMAL's learned task positions reflect task relations: python -m bench.relations."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from bench import ROOT
from bench.analyses.relations.agreement import Relations
from bench.analyses.relations.figure import maps_figure, tree_figure
from bench.analyses.relations.measures import comparable_runs, related
from bench.analyses.relations.page import pairs_csv, relations_csv, relations_page
from bench.cli.options import add_data_root, guarded, plain_console
from bench.records.store import RecordError, atomic_write_text
from bench.reporting.figures.style import save
from bench.spec.lookup import UnknownName
from datasets.contract import DataError

# Two tasks have one pair, and one pair no ranks.
FEWEST_TASKS = 3


def main(argv: Sequence[str] | None = None) -> int:
    """0, or 2 where there are no records to compare, or where they or the data can't be read."""
    arguments = _parser().parse_args(argv)
    return guarded(lambda: _relations(arguments), RecordError, UnknownName, DataError, OSError)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m bench.relations", description=__doc__)
    parser.add_argument(
        "--results",
        type=Path,
        default=ROOT / "results" / "relations",
        metavar="DIR",
        help="records (default: results/relations, where --study relations keeps them)",
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "reports" / "relations", metavar="DIR", help="default: reports/relations"
    )
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME", help="only these data sets")
    add_data_root(parser)
    return parser


def _relations(arguments: Namespace) -> int:
    console = plain_console()
    for study in comparable_runs(arguments.results, arguments.data):
        if len(study.tasks) < FEWEST_TASKS:
            console.print(f"{study.label}: left out, since it has fewer than {FEWEST_TASKS} tasks.")
            continue
        relations = related(arguments.results, study, arguments.data_root)
        folder = arguments.out / study.data
        _write(folder, relations)
        console.print(f"{study.label}: {folder / 'relations.md'}")
    return 0


def _write(folder: Path, relations: Relations) -> None:
    """Page, numbers and figures."""
    texts = {
        "relations.md": relations_page(relations),
        "relations.csv": relations_csv(relations),
        "pairs.csv": pairs_csv(relations),
    }
    for name, text in texts.items():
        atomic_write_text(folder / name, text)
    save(tree_figure(relations), folder / "dendrogram")
    save(maps_figure(relations), folder / "heatmap")


if __name__ == "__main__":
    raise SystemExit(main())

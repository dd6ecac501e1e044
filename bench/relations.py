"""Do the task positions that NORMAL learns reflect task relations? python -m bench.relations."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from bench import ROOT
from bench.analyses.relations.figure import dendrogram_figure, heatmap_figure
from bench.analyses.relations.measures import related, runs_with_cosines
from bench.analyses.relations.page import pairs_csv, relations_csv, relations_page
from bench.cli.options import add_cache_dir, add_data_root, folder, guarded, lookup_name
from bench.cli.parser import CommandParser
from bench.records.files import atomic_write_text
from bench.records.names import inside
from bench.records.plain_text import one_line
from bench.records.store import RecordError
from bench.reporting.figures.style import save
from bench.spec.lookup import UnknownName
from datasets.contract import DataError
from datasets.decoding.prepare import Preparation, preparing


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 2 if there are no records to compare, or they or the data can't be read."""
    parser = CommandParser(prog="python -m bench.relations", description=__doc__)
    parser.add_argument(
        "--results", type=folder, default=ROOT / "results" / "relations", metavar="DIR",
        help="records (default: results/relations, the folder of --study relations)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=folder, default=ROOT / "reports" / "relations", metavar="DIR", help="default: reports/relations"
    )
    parser.add_argument("--data", nargs="+", type=lookup_name, default=[], metavar="NAME", help="only these data sets")
    add_data_root(parser)
    add_cache_dir(parser)
    arguments = parser.parse_args(argv)
    with preparing(Preparation(cache=arguments.cache_dir)):
        return guarded(lambda: _relations(arguments), RecordError, UnknownName, DataError)


def _relations(arguments: Namespace) -> int:
    for name, runs in runs_with_cosines(arguments.results, arguments.data).items():
        relations = related(arguments.results, runs, arguments.data_root)
        folder = inside(arguments.out, name)
        atomic_write_text(folder / "relations.csv", relations_csv(relations))
        atomic_write_text(folder / "pairs.csv", pairs_csv(relations))
        save(dendrogram_figure(relations), folder / "dendrogram")
        save(heatmap_figure(relations), folder / "heatmap")
        page = atomic_write_text(folder / "relations.md", relations_page(relations))
        print(f"{one_line(relations.label)}: {page}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

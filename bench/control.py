"""The table of the positive control for NORMAL, from its records: python -m bench.control."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from bench import ROOT
from bench.analyses.control.measures import accuracy_of, late_movement, order_agreement, read_positions
from bench.analyses.control.page import ControlRow, ControlTable, Order, control_page
from bench.cli.options import folder, guarded
from bench.cli.parser import CommandParser
from bench.records.files import atomic_write_text
from bench.records.record import Record
from bench.records.store import RecordError, read_run, run_folder
from bench.spec.run_specs import specs_of
from bench.spec.study import Study, StudyRow, load_study
from datasets.embedded.flowtimes import TIMES

REFERENCE = "NORMAL"  # the label of the row that others are compared with


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 2 if there are no records, or they can't be read."""
    parser = CommandParser(prog="python -m bench.control", description=__doc__)
    parser.add_argument(
        "--results", type=folder, default=ROOT / "results" / "flowtimes", metavar="DIR",
        help="records (default: results/flowtimes, the folder of --study flowtimes)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=folder, default=ROOT / "reports" / "flowtimes", metavar="DIR", help="default: reports/flowtimes"
    )
    arguments = parser.parse_args(argv)
    return guarded(lambda: _control(arguments), RecordError)


def _control(arguments: Namespace) -> int:
    study = load_study("flowtimes")
    tables, orders = [], []
    for table in study.tables:
        rows = []
        for row in table.rows:
            runs = runs_of(study, row, arguments.results)
            rows.append(control_row(row, runs, arguments.results))
            if row.label == REFERENCE and table is study.tables[0]:
                orders = [order_of(record) for record in runs]
        tables.append(ControlTable(table.title, rows, REFERENCE))
    if not any(row.accuracies for table in tables for row in table.rows):
        raise RecordError(
            f"{arguments.results}: expected records of the study flowtimes, found none; run `python -m bench.run "
            "--study flowtimes` first."
        )
    page = atomic_write_text(arguments.out / "control.md", control_page(tables, TIMES, orders))
    print(f"Flowtimes: {page}")
    return 0


def runs_of(study: Study, row: StudyRow, results: Path) -> list[Record]:
    """The finished runs of a row, by seed."""
    row = row.model_copy(update={"set": {**study.set, **row.set}})
    specs = [spec for seed in study.seeds for data in row.data for spec in specs_of(row, data, seed)]
    found = [read_run(run_folder(results, spec.data, spec.variant, spec.seed)) for spec in specs]
    return [record for record in found if record is not None and record.status == "done"]


def control_row(row: StudyRow, runs: Sequence[Record], results: Path) -> ControlRow:
    """Accuracies and late movements of a row's runs."""
    learned = [run for run in runs if run.settings["arch"].get("position_form", "constant") != "constant"]
    moved = {run.seed: late_movement(read_positions(_folder(run, results) / "positions.csv")) for run in learned}
    return ControlRow(row.label, {run.seed: accuracy_of(run) for run in runs}, moved)


def order_of(record: Record) -> Order:
    """The positions of the selected epoch, in the order of the true times."""
    positions = [record.positions[task.key] for task in record.tasks]
    ordered = [position for _, position in sorted(zip(TIMES, positions, strict=True))]
    return Order(record.seed, ordered, order_agreement(positions, TIMES))


def _folder(record: Record, results: Path) -> Path:
    return run_folder(results, record.data, record.variant, record.seed)


if __name__ == "__main__":
    raise SystemExit(main())

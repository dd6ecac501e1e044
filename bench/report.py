"""Makes tables and figures from the records of runs and of measured steps: python -m bench.report"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bench import ROOT
from bench.cli.options import BAD_INPUT, plain_console
from bench.records.speed import read_speeds
from bench.records.store import RecordError, read_records
from bench.reporting.choose import chosen_records
from bench.reporting.page import SPEED
from bench.reporting.study import PlannedTable
from bench.reporting.write import write_reports
from bench.spec.lookup import UnknownName, lookup
from bench.spec.study import Study, StudyError, load_study


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the reports and says where they are; 2 where there is nothing to report or a record is unreadable."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("--study", metavar="NAME", help="the tables of a study that has its own, as ablation")
    parser.add_argument("--results", type=Path, metavar="DIR", help="folder of the records (default: results)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the reports (default: reports)")
    parser.add_argument("--spread", action="store_true", help="print the standard deviation over seeds beside means")
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME", help="only these data sets")
    parser.add_argument("--tasks", nargs="+", default=[], metavar="NAME", help="draw the positions of these tasks only")
    options = parser.parse_args(argv)
    try:
        study = load_study(options.study) if options.study else None
        folder = study.folder if study else ""
        results, out = options.results or ROOT / "results" / folder, options.out or ROOT / "reports" / folder
        speeds = read_speeds(results / SPEED)
        # Who has only measured steps has no runs to choose from.
        records = [] if speeds and not read_records(results) else chosen_records(results, options.data)
        known = dict.fromkeys(task.key for record in records for task in record.tasks)
        tasks = [lookup(known, "task among the records", name) for name in options.tasks]
        tables_of = _tables_of(study) if study and study.tables else None
        files = write_reports(results, records, out, options.spread, tasks, tables_of, speeds)
    except (RecordError, UnknownName, StudyError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    console = plain_console()
    measured = f" and {len(speeds)} measurement{'s' if len(speeds) != 1 else ''} of steps" if speeds else ""
    console.print(f"Tables and figures of {len(records)} runs{measured}: {files[0]}", style="bold")
    for place in dict.fromkeys(path.parent for path in files[1:] if path.suffix == ".tex"):
        console.print(f"  {place}: {', '.join(path.name for path in files if path.parent == place)}")
    return 0


def _tables_of(study: Study) -> Callable[[str], list[PlannedTable]]:
    # What a row means is in the registries, which bring torch; whoever reports on records alone can do without.
    from bench.cli.study_tables import planned_tables

    return partial(planned_tables, study)


if __name__ == "__main__":
    raise SystemExit(main())

"""Makes tables and figures from the records of runs: python -m bench.report"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import ROOT
from bench.lookup import UnknownName
from bench.options import BAD_INPUT, plain_console
from bench.records.store import RecordError
from bench.reporting.choose import chosen_records
from bench.reporting.write import write_reports


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the reports and says where they are; 2 where there is nothing to report or a record is unreadable."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of the records (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "reports", help="folder for the reports (%(default)s)")
    parser.add_argument("--spread", action="store_true", help="print the standard deviation over seeds beside means")
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME", help="only these data sets")
    options = parser.parse_args(argv)
    try:
        records = chosen_records(options.results, options.data)
        files = write_reports(options.results, records, options.out, options.spread)
    except (RecordError, UnknownName) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    console = plain_console()
    console.print(f"Tables and figures of {len(records)} runs: {files[0]}", style="bold")
    for folder in dict.fromkeys(path.parent for path in files[1:] if path.suffix == ".tex"):
        console.print(f"  {folder}: {', '.join(path.name for path in files if path.parent == folder)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""The numbers that the paper printed, from the files of its tables."""

from __future__ import annotations

import csv
from pathlib import Path

from bench.reporting.paper.layout import PaperTable

FOLDER = Path(__file__).resolve().parent
SOURCE = "Ye et al., IJCAI 2023"
NOT_COMPARABLE = "not comparable: other splits, other code"


def read_printed(file: str) -> list[list[str]]:
    """The lines of a table's file, digits as printed; the heads of the columns first."""
    with (FOLDER / f"{file}.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.reader(lines))


def printed_rows(table: PaperTable) -> dict[str, dict[str, str]]:
    """The digits of a table by row and column, as the file names them, in the paper's order."""
    header, *body = read_printed(table.file)
    return {line[0]: dict(zip(header[1:], line[1:], strict=True)) for line in body}

"""The tables of bench.speed data: a row per contestant, on the screen, as Markdown and CSV."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from bench.cli.options import plain_console
from bench.profiling.data import ARRAYS, IMAGE_FOLDER, ONE_WORKER, TWO_WORKERS, Turn

TITLES = {"batches": "Batches of normalised 224×224 images", "preparation": "Preparation: JPEGs to 224×224 arrays"}
REFERENCES = {ARRAYS: IMAGE_FOLDER, TWO_WORKERS: ONE_WORKER}
NOTE = (
    "Median over rounds, and in brackets the first and third quartile; ratios within a round. Prepared arrays are "
    "meant to give at least 10 × the images of ImageFolder, two workers at least 1.8 × those of one."
)
HEAD = ("contestant", "images/s", "× the other")
_NOTHING = "--"


def cells(turns: Sequence[Turn]) -> list[tuple[str, str, str]]:
    """A row for every contestant of one question."""
    rates: dict[str, list[float]] = {}
    for turn in turns:
        rates.setdefault(turn.contestant, []).append(turn.rate)
    return [(name, _with_quartiles(own, "{:,.0f}"), _ratio(name, rates)) for name, own in rates.items()]


def _ratio(name: str, rates: Mapping[str, Sequence[float]]) -> str:
    if name not in REFERENCES:
        return _NOTHING
    quotients = [own / other for own, other in zip(rates[name], rates[REFERENCES[name]], strict=True)]
    return _with_quartiles(quotients, "{:.2f}")


def _with_quartiles(values: Sequence[float], form: str) -> str:
    low, middle, high = (form.format(value) for value in np.percentile(values, [25, 50, 75]))
    return f"{middle} ({low} – {high})"


def _by_question(turns: Sequence[Turn]) -> dict[str, list[Turn]]:
    return {question: [turn for turn in turns if turn.question == question] for question in TITLES}


def show(turns: Sequence[Turn], circumstances: str) -> None:
    """Prints the tables."""
    console = plain_console()
    for question, own in _by_question(turns).items():
        table = Table(*HEAD, box=None, pad_edge=False, title=TITLES[question], title_justify="left")
        for row in cells(own):
            table.add_row(*row)
        console.print(table, "")
    console.print(NOTE, circumstances, sep="\n")


def write(turns: Sequence[Turn], circumstances: str, folder: Path) -> None:
    """data.md, the tables; data.csv, every turn."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [circumstances]
    for question, own in _by_question(turns).items():
        lines = [HEAD, (":--", "--:", "--:"), *cells(own)]
        parts += [f"## {TITLES[question]}", "\n".join("| " + " | ".join(line) + " |" for line in lines)]
    (folder / "data.md").write_text("\n\n".join([*parts, NOTE]) + "\n", encoding="utf-8")
    with (folder / "data.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in dataclasses.fields(Turn))
        writer.writerows(dataclasses.astuple(turn) for turn in turns)

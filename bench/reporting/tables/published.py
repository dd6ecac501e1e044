"""The published tables of the paper, to compare with ours."""

from __future__ import annotations

from bench.reporting.paper.printed import NOT_COMPARABLE, SOURCE, read_printed
from bench.reporting.tables.table import Cell, Column, Group, Head, Row, Table

CAPTION = f"published ({SOURCE}), {NOT_COMPARABLE}"
# Per data set: a caption, the file, and whether its columns begin with the data set's key.
PUBLISHED: dict[str, tuple[tuple[str, str, bool], ...]] = {
    "office31": (("Accuracy (%)", "table1_office", True), ("Ablation, accuracy (%)", "table4_ablation", True)),
    "officehome": (("Accuracy (%)", "table1_office", True), ("Ablation, accuracy (%)", "table4_ablation", True)),
    "nyuv2": (("Test scores", "table2_nyuv2", False),),
    "celeba": (("Accuracy (%)", "table3_celeba", True),),
}
HEADS = {"delta_percent": "Δ_b (%)"}


def published(data: str, label: str, part: str = "") -> tuple[Table, ...]:
    """The paper's tables of a data set, digits as printed; none if the paper doesn't have the data set.

    part: name of a study's table, which is compared with the paper's table of that name, if any.
    """
    return tuple(_table(label, *entry, data=data) for entry in PUBLISHED.get(data, ()) if entry[1].startswith(part))


def _table(label: str, what: str, file: str, prefixed: bool, data: str) -> Table:
    header, *body = read_printed(file)
    start = f"{data}/" if prefixed else ""
    places = [place for place, name in enumerate(header) if place > 0 and name.startswith(start)]
    names = [header[place].removeprefix(start) for place in places]
    columns = tuple(Column(Head(HEADS.get(name, name.replace("/", " ")))) for name in names)
    rows = tuple(Row(Head(line[0]), tuple(Cell(line[place]) for place in places)) for line in body)
    stub = header[0].capitalize()
    groups: tuple[Group, ...] = ()
    return Table(file, f"tab:{data}-{file}", f"{label}. {what}, {CAPTION}.", stub, groups, columns, rows)

"""The tables to print: one laid out as the paper's, and one with published numbers, ours, and the difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bench.reporting.options import Options, Spread
from bench.reporting.paper.cells import BOLD_RULE, dummy_row, our_cells
from bench.reporting.paper.checks import Check, image_checks, table_checks
from bench.reporting.paper.differences import Triple, triples
from bench.reporting.paper.layout import LABELS, PaperColumn, PaperTable
from bench.reporting.paper.printed import NOT_COMPARABLE, SOURCE
from bench.reporting.paper.rows import FilledTable, PaperRow
from bench.reporting.tables.score_rows import DUMMY_BASELINE
from bench.reporting.tables.scores import circumstances
from bench.reporting.tables.table import Cell, Column, Group, Head, Row, Table

DIFFERENCES = "differences"  # end of the name of a table with published numbers
LINES = ("published", "here", "difference")


def paper_table(filled: FilledTable, options: Options) -> Table:
    """Our rows, laid out as the paper's table."""
    layout = filled.layout
    cells = our_cells(filled, options)
    rows = [
        Row(_head(row), own, rule=not row.printed and bool(filled.rows[place - 1].printed), aside=not row.printed)
        for place, (row, own) in enumerate(zip(filled.rows, cells, strict=True))
    ]
    dummy = dummy_row(filled, options)
    if dummy:
        rows.append(Row(Head(DUMMY_BASELINE, (), {"variant": "", "method": DUMMY_BASELINE}), dummy, rule=True))
    bold = any(cell.bold for own in cells for cell in own)
    caption = f"{layout.what}, laid out as Table {layout.number} of {SOURCE}; all numbers are from our own runs."
    note = _sentences(layout.remark, _circumstances(filled, options.spread), BOLD_RULE if bold else "")
    columns = tuple(Column(Head(column.head, (), _identity(column))) for column in layout.columns)
    return Table(
        filled.name, f"tab:paper-{filled.name}", caption, layout.stub, layout.groups, columns, tuple(rows),
        note, layout.supergroups,
    )  # fmt: skip


def differences_table(filled: FilledTable) -> Table:
    """The published number, ours, and ours minus the published one, of every cell of the paper.

    A column of one number per row becomes three columns, all others three lines per row.
    """
    checks = table_checks(filled.layout)
    found = triples(filled)
    caption = f"{filled.layout.what}: published ({SOURCE}), here, and the difference (here − published)."
    note = _sentences(
        f"Published numbers are {NOT_COMPARABLE}.",
        filled.layout.remark,
        _check_sentence(checks),
        *_image_sentences(filled.layout),
        _circumstances(filled, "none"),
    )
    name = f"{filled.name}-{DIFFERENCES}"
    table = Table(name, f"tab:paper-{name}", caption, filled.layout.stub, (), (), (), note)
    if len(filled.layout.columns) == 1:
        return _beside(table, filled, found)
    return _below(table, filled, found)


def _beside(table: Table, filled: FilledTable, found: Mapping[str, tuple[Triple, ...]]) -> Table:
    columns = tuple(Column(Head(line.capitalize())) for line in LINES)
    rows = tuple(Row(_head(row), found[row.printed][0].cells) for row in filled.rows if row.printed)
    return replace(table, columns=columns, rows=rows)


def _below(table: Table, filled: FilledTable, found: Mapping[str, tuple[Triple, ...]]) -> Table:
    layout = filled.layout
    columns = (Column(Head(""), "left"), *(Column(Head(column.head)) for column in layout.columns))
    rows = [
        Row(_head(row) if place == 0 else Head(""), (Cell(line), *cells), gap=place == 0)
        for row in filled.rows
        if row.printed
        for place, (line, cells) in enumerate(
            zip(LINES, zip(*(triple.cells for triple in found[row.printed]), strict=True), strict=True)
        )
    ]
    groups, above = ((Group("", 1), *level) if level else () for level in (layout.groups, layout.supergroups))
    return replace(table, columns=columns, rows=tuple(rows), groups=groups, supergroups=above)


def _head(row: PaperRow) -> Head:
    variants = " ".join(dict.fromkeys(variant.key for variant in row.variants.values()))
    return Head(row.label, row.notes, {"variant": variants, "method": row.label})


def _identity(column: PaperColumn) -> dict[str, str]:
    metric = column.metric
    return {
        "data": column.data,
        "task": column.task,
        "metric": metric.key,
        "unit": column.unit,
        "direction": metric.direction,
    }


def _circumstances(filled: FilledTable, spread: Spread) -> str:
    """Seeds, settings and rules by data set, what has no runs, and what is left out."""
    by_data = {
        data: circumstances(replace(comparison, absent=()), spread) for data, comparison in filled.comparisons.items()
    }
    same = len(set(by_data.values())) == 1
    told = list(by_data.values())[:1] if same else [f"{LABELS[data]}: {text}" for data, text in by_data.items()]
    protocol = f"Protocol: {filled.protocol}." if filled.protocol else ""
    return _sentences(protocol, *told, *filled.missing, *filled.left_out)


def _check_sentence(checks: tuple[Check, ...]) -> str:
    """Whether the paper's own averages or Δ_b follow from its other numbers."""
    if not checks:
        return ""
    what = "Δ_b" if "Δ_b" in checks[0].group else "averages"
    holding = sum(check.holds for check in checks)
    count = f"all {len(checks)}" if holding == len(checks) else f"{holding} of {len(checks)}"
    return f"Of the published {what}, {count} follow from the published columns within {checks[0].allowed:g}."


def _image_sentences(layout: PaperTable) -> list[str]:
    """What the paper's text says of the number of images, where that is not the data set's."""
    return [
        f"The paper counts {check.printed:,.0f} images of {LABELS[check.row]}, which has {check.found:,.0f}."
        for check in image_checks()
        if check.row in layout.data and not check.holds
    ]


def _sentences(*texts: str) -> str:
    return " ".join(filter(None, texts)).removesuffix(".") + "."

"""The table of methods against their frozen twins: whether moving weights matter."""

from __future__ import annotations

from bench.reporting.comparison import Comparison
from bench.reporting.contrasts import Contrasts, Twin
from bench.reporting.overall import overall_name, overall_unit
from bench.reporting.tables.table import Cell, Column, Head, Row, Table
from bench.reporting.tables.verdicts import estimate_cell, p_cell

CAPTION = "Methods against their frozen twins, which keep the method's mean weights constant"
NOTE = (
    "Difference: in the overall test score ({score}), paired by seed, with 95 % interval; positive if moving the "
    "weights is better. p: two-sided sign-flip test, adjusted for the number of pairs (Holm); none if a run diverged "
    "or has no finite score."
)


def twin_table(comparison: Comparison, contrasts: Contrasts) -> Table | None:
    """A row for each pair; the note names the rows without a twin. None if no row is a twin."""
    if not any(variant.twin_of for variant in comparison.variants):
        return None
    unit = overall_unit(comparison)
    heads = (
        Head("Twin", (), {"metric": "twin"}),
        Head("Seeds", (), {"metric": "seeds"}),
        Head("Difference", (), {"metric": "difference_from_twin", "unit": unit}),
        Head("p (Holm)", (), {"metric": "p_holm"}),
    )
    columns = tuple(Column(head, "left" if head.text == "Twin" else "right") for head in heads)
    rows = tuple(_row(pair, unit) for pair in contrasts.twins)
    sentences = [NOTE.format(score=overall_name(comparison))]
    if contrasts.unpaired:
        sentences.append(f"Pairs left out: {'; '.join(contrasts.unpaired)}.")
    if contrasts.twinless:
        sentences.append(f"Rows without a twin: {', '.join(contrasts.twinless)}.")
    label = f"tab:{comparison.folder.replace('/', '-')}-twins"
    caption = f"{comparison.label}. {CAPTION}."
    return Table("twins", label, caption, "Method", (), columns, rows, " ".join(sentences))


def _row(pair: Twin, unit: str) -> Row:
    cells = (
        Cell(pair.twin.label),
        Cell(str(len(pair.seeds)), float(len(pair.seeds)), None, pair.seeds),
        estimate_cell(pair.difference, pair.seeds, unit, signed=True),
        p_cell(pair.p, pair.seeds),
    )
    notes = tuple(dict.fromkeys((*pair.variant.notes, *(f"twin: {note}" for note in pair.twin.notes))))
    return Row(Head(pair.variant.label, notes, {"variant": pair.variant.key, "method": pair.variant.label}), cells)

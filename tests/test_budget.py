"""Whether a budget was enough: the late gain against worked examples, and the table of a report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from record_factory import make_record

from bench.records.record import Selected
from bench.records.store import CURVE, run_folder
from bench.reporting.comparison import comparisons
from bench.reporting.inference.flatness import is_flat, late_gains
from bench.reporting.series import read_curves
from bench.reporting.tables.budget import budget_table

NAN = float("nan")


@pytest.mark.parametrize(
    ("scores", "gain"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 0.2),  # 0.6 after 0.4
        ([0.1, 0.9, 0.3, 0.4, 0.5, 0.6], 0.0),  # the best stays that of epoch 2
        ([0.1, 0.2, 0.3, NAN, 0.25, NAN], 0.0),
        ([0.1, NAN, 0.3, NAN, 0.4, NAN], 0.1),
        ([0.1, 0.2, 0.3, 0.5, 0.6, 0.6, 0.7], 0.1),  # of seven epochs the last two
    ],
)
def test_the_late_gain_is_that_of_the_best_score_so_far(scores: list[float], gain: float) -> None:
    assert late_gains(np.array([scores]))[0] == pytest.approx(gain)


def test_a_budget_is_flat_by_the_mean_over_seeds() -> None:
    assert is_flat(np.array([0.009, 0.000]), "accuracy") and not is_flat(np.array([0.006, 0.005]), "accuracy")
    assert is_flat(np.array([0.006, 0.005]), "gain") and not is_flat(np.array([NAN]), "gain")
    with pytest.raises(ValueError, match="at least 3 epochs"):
        late_gains(np.zeros((2, 2)))


def test_rows_that_still_rise_are_named(tmp_path: Path) -> None:
    curves = {
        ("ew", 0): [0.5, 0.7, 0.7],
        ("ew", 1): [0.5, 0.8, 0.804],
        ("uw", 0): [0.5, 0.6, 0.7],
        ("uw", 1): [0.5, NAN, NAN],
    }
    for (method, seed), scores in curves.items():
        lines = ["epoch,step,seconds,score", *(f"{epoch},1,1,{score}" for epoch, score in enumerate(scores, 1))]
        folder = run_folder(tmp_path, "digits", method, seed)
        folder.mkdir(parents=True)
        (folder / CURVE).write_text("\n".join(lines) + "\n")
    labels = {"ew": "EW", "uw": "UW", "mgda": "MGDA"}
    selected = Selected(epoch=1, rule="highest", score=0.5)
    records = [
        make_record("digits", label, variant=key, seed=seed, epochs=3, selected=selected)
        for key, label in labels.items()
        for seed in (0, 1)
    ]
    (comparison,) = comparisons(records)
    table = budget_table(comparison, read_curves(tmp_path, comparison))
    assert table is not None
    texts = {row.head.text: [cell.text for cell in row.cells] for row in table.rows}
    assert texts == {"EW": ["0.0020", "flat"], "UW": ["0.0500", "still rising"], "MGDA": ["--", "--"]}
    assert budget_table(comparison, read_curves(tmp_path / "none", comparison)) is None

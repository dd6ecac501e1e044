"""The page of python -m bench.speed estimates."""

from __future__ import annotations

from collections.abc import Sequence

from bench.forecasting.calibration import Calibration, Checked
from bench.profiling.tables import Page
from bench.reporting.tables.table import Cell, Column, Head, Row, Table

_CAPTION = (
    "Training steps, measured and estimated from counted work. The rates of this machine are fitted to some steps; the "
    "others are predicted, and are meant to be within a factor of two."
)
_HEADS = ("method", "step", "measured, ms", "estimated, ms", "estimated / measured")


def calibration_page(found: Calibration, circumstances: str) -> Page:
    """A row for each step. circumstances: a line on where and how it was measured."""
    rows = tuple(Row(Head(step.problem.key), tuple(map(Cell, _cells(step)))) for step in found.steps)
    columns = tuple(Column(Head(head), "left" if head in _HEADS[:2] else "right") for head in _HEADS)
    rates = found.rates
    fitted = (
        f"Fitted: {rates.fp32 / 1e9:.3g} GFLOPS of products, {rates.bandwidth / 1e9:.3g} GB/s, "
        f"{1e6 * rates.launch:.3g} µs per operation."
    )
    return Page(
        (Table("estimates", "tab:estimates", _CAPTION, "problem", (), columns, rows),),
        (circumstances, fitted, f"Factor of the predicted steps: {_spread(found.steps)}."),
        [_values(step) for step in found.steps],
    )


def _cells(step: Checked) -> list[str]:
    role = "fitted" if step.problem.fitted else "predicted"
    times = [f"{1e3 * seconds:,.1f}" for seconds in (step.measured, step.estimated)]
    return [step.problem.method, role, *times, f"{step.factor:.2f}"]


def _spread(steps: Sequence[Checked]) -> str:
    factors = [step.factor for step in steps if not step.problem.fitted]
    return f"{min(factors):.2f} to {max(factors):.2f}"


def _values(step: Checked) -> dict[str, object]:
    problem = step.problem
    return {
        "problem": problem.key,
        "method": problem.method,
        "fitted": problem.fitted,
        "measured_s": step.measured,
        "estimated_s": step.estimated,
    }

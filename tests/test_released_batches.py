"""MoDo and SDMGrad beside tables that released code computed, over several steps of state.

Each table in tests/released says which code was run and how. Jacobians are float32, and
released code solves in float32.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from methods.contract import Signal, Weighting
from methods.rows import cross_gramian_of
from methods.weightings.modo import MoDo
from methods.weightings.sdmgrad import SDMGrad


@pytest.mark.parametrize(
    ("name", "method", "weighted", "tolerance"),
    [
        ("modo", MoDo(), 2, 1e-6),
        ("sdmgrad", SDMGrad(), 0, 2e-4),  # twenty steps of size 10 amplify rounding
    ],
)
def test_directions_are_those_of_released_code(name: str, method: Weighting, weighted: int, tolerance: float) -> None:
    """weighted: which of the three batches the weights apply to; the other two give the weights."""
    path = Path(__file__).with_name("released") / f"{name}.json"
    for case in json.loads(path.read_text(encoding="utf-8"))["cases"]:
        state = method.init(case["tasks"])
        for number, step in enumerate(case["steps"]):
            jacobians = [torch.tensor(rows) for rows in step["jacobians"]]
            applied = jacobians.pop(weighted).double()
            losses = torch.ones(case["tasks"], dtype=torch.float64)
            products = cross_gramian_of(*jacobians)
            update = method.step(Signal(losses, None, number, 0, torch.Generator(), cross_gramian=products), state)
            state = update.state
            expected = torch.tensor(step["direction"], dtype=torch.float64)
            assert (update.weights @ applied - expected).norm() <= tolerance * expected.norm()

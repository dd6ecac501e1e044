"""ConFIG and EPO beside what their authors' code returned; `tests/released` says how it was run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import for_every
from signals import signal

from methods.contract import State
from methods.rows import gramian_of
from methods.weightings.config import ConFIG
from methods.weightings.epo import EPO

TABLES = Path(__file__).parent / "released"


def cases(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((TABLES / f"{name}.json").read_text(encoding="utf-8"))["cases"]
    return found


@for_every("case", cases("config"))
def test_config(case: dict[str, Any]) -> None:
    """Their direction is a float32 solution: off by rounding over the least singular value, 0.03 where it is least."""
    rows, theirs = torch.tensor(case["jacobian"]), torch.tensor(case["update"], dtype=torch.float64)
    losses = torch.ones(len(rows), dtype=torch.float64)
    update = ConFIG(tuple(case["preference"])).step(signal(losses, gramian_of(rows)), State())
    assert (update.weights @ rows.double() - theirs).norm() <= 1e-5 * theirs.norm()


@for_every("case", cases("epo"))
def test_epo(case: dict[str, Any]) -> None:
    """The programs are the same up to the rounding of their float32 Gramian, and so are the vertices."""
    rows, losses = torch.tensor(case["jacobian"]), torch.tensor(case["losses"], dtype=torch.float64)
    epo = EPO(tuple(case["preference"]), descent="relaxed" if case["relaxed"] else "restricted")
    update = epo.step(signal(losses, gramian_of(rows)), State())
    assert update.fallbacks == 0
    np.testing.assert_allclose(update.weights, case["weights"], atol=2e-6)

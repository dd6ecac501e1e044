"""GO4Align, IGBv1, UW-SO and LDC-MTL beside the code that their authors released, over several steps.

That code runs in float32 and ours in float64 on the same losses. They may differ by float32 rounding over a few
operations and steps: a relative 2e-6, several times what was found.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import for_every
from signals import signal
from torch import Tensor

from methods.contract import Weighting
from methods.weightings.go4align import GO4Align
from methods.weightings.igb import IGB
from methods.weightings.ldc_mtl import LDCMTL, discrepancy_factors, normalised_losses
from methods.weightings.uw_so import UWSO

FOLDER = Path(__file__).parent / "released"
RTOL = 2e-6


def cases_of(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["cases"]
    assert cases
    return cases


def weights_of(weighting: Weighting, losses: list[list[float]], epochs: list[int] | None = None) -> Tensor:
    """Weights (steps, m) of a run that sees these losses."""
    state, weights = weighting.init(len(losses[0])), []
    for step, row in enumerate(losses):
        seen = signal(torch.tensor(row, dtype=torch.float64), step=step, epoch=epochs[step] if epochs else 0)
        update = weighting.step(seen, state)
        state = update.state
        weights.append(update.weights)
    return torch.stack(weights)


def close(ours: Tensor, released: list[Any]) -> None:
    torch.testing.assert_close(ours, torch.tensor(released, dtype=torch.float64), rtol=RTOL, atol=1e-30)


@for_every("case", cases_of("uw_so"))
def test_uw_so(case: dict[str, Any]) -> None:
    close(weights_of(UWSO(case["temperature"]), [case["losses"]]), [case["weights"]])


@for_every("case", cases_of("igb"))
def test_igb(case: dict[str, Any]) -> None:
    close(weights_of(IGB(), case["losses"], case["epochs"]), case["weights"])


@for_every("case", cases_of("go4align"))
def test_go4align(case: dict[str, Any]) -> None:
    """Its k-means starts from random tasks. Where it ends in another grouping than ours, that is a worse one."""
    weighting = GO4Align(groups=case["groups"], step_size=case["step_size"])
    alone = GO4Align(groups=len(case["losses"][0]), step_size=case["step_size"])
    indicators, ours = weights_of(alone, case["losses"]), weights_of(weighting, case["losses"])
    released = torch.tensor(case["weights"], dtype=torch.float64)
    same = [torch.allclose(mine, theirs, rtol=RTOL, atol=0) for mine, theirs in zip(ours, released, strict=True)]
    costs, released_costs = ((indicators - each).square().sum(dim=1) for each in (ours, released))
    for agrees, cost, released_cost in zip(same, costs, released_costs, strict=True):
        assert agrees or cost < released_cost * (1 - 1e-3)


def test_go4align_mostly_ends_in_the_same_groups() -> None:
    """So that the test above does not pass by worse groupings alone."""
    steps = agreeing = 0
    for case in cases_of("go4align"):
        ours = weights_of(GO4Align(groups=case["groups"], step_size=case["step_size"]), case["losses"])
        released = torch.tensor(case["weights"], dtype=torch.float64)
        steps += len(ours)
        agreeing += sum(torch.allclose(*pair, rtol=RTOL, atol=0) for pair in zip(ours, released, strict=True))
    assert agreeing >= 0.8 * steps


@for_every("case", [case for case in cases_of("ldc_mtl") if case["script"] == "celeba"])
def test_ldc_mtl_with_free_weights(case: dict[str, Any]) -> None:
    """Weights of the losses, and the learned shares that they come from."""
    weighting = LDCMTL(penalty=case["penalty"], normalisation="none")
    close(weights_of(weighting, case["losses"]), case["weights"])
    state = weighting.init(len(case["losses"][0]))
    for losses, shares in zip(case["losses"], case["shares"], strict=True):
        close(torch.sigmoid(state.memory["logits"]), shares)
        state = weighting.step(signal(torch.tensor(losses, dtype=torch.float64)), state).state


@for_every("case", [case for case in cases_of("ldc_mtl") if case["script"] == "nyuv2"])
def test_ldc_mtl_with_normalised_losses_and_given_weights(case: dict[str, Any]) -> None:
    """The weights come from a network there, so they are given; its softmax, once clamped, need not sum to 1."""
    initial = torch.tensor(case["losses"][0], dtype=torch.float64)
    for losses, shares, weights in zip(case["losses"], case["shares"], case["weights"], strict=True):
        given = torch.tensor(shares, dtype=torch.float64)
        normalised, derivative, undefined = normalised_losses(
            torch.tensor(losses, dtype=torch.float64), initial, "initial"
        )
        assert not undefined
        close(given * discrepancy_factors(given, normalised, case["penalty"]) * derivative, weights)
    assert len(np.unique(np.sign(np.diff(case["losses"])))) == 2

"""CR-MOGM: a running mean of the weights of any weighting, against the noise of single batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from methods.contract import Update
from methods.transfer import send


def running_mean(update: Update, before: Mapping[str, Tensor], momentum: float) -> Update:
    """The update with w ← momentum · w_before + (1 − momentum) · w, for its weights and, if any, its head weights.

    before: what the last step applied; empty before the first, which leaves its weights as they are.
    Source: Zhou, Zhang, Jiang, Zhong, Gu, Zhu: On the convergence of stochastic multi-objective gradient manipulation
        and beyond (NeurIPS 2022), Eq. (6).
    Deviations: the momentum is constant, while the paper lets it grow towards 1 as the learning rate decreases; the
        mean starts at the first weights.
    """
    if not before:
        return update
    weights = _mean(before["weights"], update.weights, momentum)
    head_weights = update.head_weights
    if head_weights is not None and "head_weights" in before:
        head_weights = _mean(before["head_weights"], head_weights, momentum)
    return replace(update, weights=weights, head_weights=head_weights)


def _mean(before: Tensor, now: Tensor, momentum: float) -> Tensor:
    # After resuming, those of a checkpoint are on the CPU.
    return send(before.double(), now.device).lerp(now.double(), 1 - momentum)

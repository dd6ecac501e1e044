"""The weightings of LibMTL 1.1.5 under our contract, as found, errors included.

How they are run, on a stand-in for LibMTL's model, is described in `methods.adapters.libmtl_kinds`.

What was added:
- GradDrop expects the gradients of one representation that all tasks share, and the signs of its activations. Here the
  shared parameters replace it, with sign 1.
- Mean training losses by epoch, which LibMTL's trainer stores for DWA and GradNorm, are part of our state.
- The learned scales are driven by an Adam of their own without weight decay; in LibMTL they share the network's.
- Random draws come from the run's own generator instead of the global ones.

A weighting's whole state is in `State`, so it can be checkpointed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from methods.adapters.libmtl_kinds import GradientAdapter, LossAdapter
from methods.adapters.libmtl_kinds import weightings as weightings

VERSION = "1.1.5"


@dataclass(frozen=True)
class EW(LossAdapter):
    """The sum of the losses."""

    peer = "EW"


@dataclass(frozen=True)
class UW(LossAdapter):
    """lr: of the scales; LibMTL uses the network's, 1e-4 by default."""

    peer = "UW"
    learns_scales = True

    lr: float = 1e-4


@dataclass(frozen=True)
class DWA(LossAdapter):
    """T: temperature."""

    peer = "DWA"
    reads_epoch_means = True

    T: float = 2.0


@dataclass(frozen=True)
class RLW(LossAdapter):
    """dist: "Normal", "Uniform", "Dirichlet", "Bernoulli" or "constrained_Bernoulli"."""

    peer = "RLW"

    dist: str = "Normal"


@dataclass(frozen=True)
class GLS(LossAdapter):
    """The geometric mean of the losses."""

    peer = "GLS"


@dataclass(frozen=True)
class GradNorm(GradientAdapter):
    """Equal weighting in the first epoch.

    alpha: restoring force.
    lr: of the scales; LibMTL uses the network's, 1e-4 by default.
    """

    peer = "GradNorm"
    learns_scales = True
    reads_epoch_means = True

    alpha: float = 1.5
    lr: float = 1e-4


@dataclass(frozen=True)
class MGDA(GradientAdapter):
    """mgda_gn: "none", "l2", "loss" or "loss+"."""

    peer = "MGDA"

    mgda_gn: str = "none"


@dataclass(frozen=True)
class PCGrad(GradientAdapter):
    """Projections in an order drawn at each step."""

    peer = "PCGrad"


@dataclass(frozen=True)
class GradVac(GradientAdapter):
    """beta: decay of the target cosines."""

    peer = "GradVac"
    state_names = ("rho_T",)

    beta: float = 0.5


@dataclass(frozen=True)
class GradDrop(GradientAdapter):
    """leak: share of the gradients that no mask removes."""

    peer = "GradDrop"
    reads_representation = True

    leak: float = 0.0

    def add_shared(self, model: Any, losses: Tensor, rows: Tensor) -> Tensor:
        model.shared = model.rep = nn.Parameter(rows.new_ones(1, rows.shape[1]))
        model.rep_tasks = {task: torch.zeros_like(model.rep, requires_grad=True) for task in model.task_name}
        parts = [row @ model.rep_tasks[task][0] for row, task in zip(rows, model.task_name, strict=True)]
        return losses + torch.stack(parts)


@dataclass(frozen=True)
class IMTL(GradientAdapter):
    """lr: of the scales; LibMTL uses the network's, 1e-4 by default."""

    peer = "IMTL"
    learns_scales = True

    lr: float = 1e-4


@dataclass(frozen=True)
class CAGrad(GradientAdapter):
    """Conflict-averse gradient descent.

    calpha: radius of the ball.
    rescale: 0 (none), 1 (by 1 + calpha²) or 2 (by 1 + calpha).
    """

    peer = "CAGrad"

    calpha: float = 0.5
    rescale: int = 1


WEIGHTINGS: Mapping[str, type[Any]] = {
    "ew": EW,
    "uw": UW,
    "dwa": DWA,
    "rlw": RLW,
    "gls": GLS,
    "gradnorm": GradNorm,
    "mgda": MGDA,
    "pcgrad": PCGrad,
    "gradvac": GradVac,
    "graddrop": GradDrop,
    "imtl": IMTL,
    "cagrad": CAGrad,
}

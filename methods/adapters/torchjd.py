"""The weightings of TorchJD 0.18.0 under our contract, as found, faults included.

Its aggregators are reached by the narrowest door that they have: the Gramian (most), a matrix of which only the
number of rows counts (Mean, Sum, Constant, Random), or the Jacobian, from which come weights (NashMTL, ExcessMTL) or,
where the rows are not merely weighed (ConFIG, GradDrop, TrimmedMean), the shared gradient itself. Own heads keep
their plain gradients, as in `torchjd.autojac.mtl_backward`. Its scalarizers see the losses alone; their gradient in
the losses is the weights, of the own heads too, as `backward` on the scalar has it.

What was added:
- SDMGrad and MoDo want the product of the Jacobians of two independent batches; they get the Gramian of the one batch.
- DWA's `step` is called where an epoch ends. An option without a default got one.
- The learned scales of UW and IMTLL are driven by Adam with `lr`, without weight decay.
- Random draws come from the run's own stream instead of the global one.

All of a weighting's state is in `State`, so it checkpoints; objects of TorchJD are kept only to spare building them
anew, and every step begins by putting the state into them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from methods.adapters.torchjd_steps import adapts

VERSION = "0.18.0"


@adapts("AlignedMTL", "gramian")
@dataclass(frozen=True)
class AlignedMTL:
    """pref_vector: (m,), or nothing for 1/m. scale_mode: min, median or rmse."""

    pref_vector: tuple[float, ...] = ()
    scale_mode: str = "min"


@adapts("CAGrad", "gramian")
@dataclass(frozen=True)
class CAGrad:
    """c: radius of the ball (TorchJD has no default)."""

    c: float = 0.4
    norm_eps: float = 0.0001


@adapts("ConFIG", "jacobian", weighs=False)
@dataclass(frozen=True)
class ConFIG:
    """pref_vector: (m,), or nothing for 1."""

    pref_vector: tuple[float, ...] = ()


@adapts("Constant", "losses")
@dataclass(frozen=True)
class Constant:
    """weights: (m,), or nothing for 1/m (TorchJD has no default)."""

    weights: tuple[float, ...] = ()


@adapts("CRMOGMWeighting", "gramian", keeps=frozenset({"_lambda"}))
@dataclass(frozen=True)
class CRMOGM:
    """inner: the weighting whose weights are smoothed, one without options (TorchJD has no default)."""

    inner: str = "MGDA"
    alpha: float = 0.9


@adapts("DualProj", "gramian")
@dataclass(frozen=True)
class DualProj:
    """pref_vector: (m,), or nothing for 1/m."""

    pref_vector: tuple[float, ...] = ()


@adapts(
    "ExcessMTL", "jacobian", keeps=frozenset({"_weights", "_sq_grad_sum", "_initial_w", "_warmup_w_sum", "_n_steps"})
)
@dataclass(frozen=True)
class ExcessMTL:
    """Its state is as large as the Jacobian."""

    robust_step_size: float = 1.0
    n_warmup_steps: int = 0


@adapts("FairGrad", "gramian")
@dataclass(frozen=True)
class FairGrad:
    """alpha: kind of fairness (TorchJD has no default)."""

    alpha: float = 1.0
    max_iters: int | None = None


@adapts("GradDrop", "jacobian", weighs=False)
@dataclass(frozen=True)
class GradDrop:
    """leak: (m,), or nothing for 0."""

    leak: tuple[float, ...] = ()


@adapts("GradVac", "gramian", keeps=frozenset({"_phi_t"}))
@dataclass(frozen=True)
class GradVac:
    """beta: decay of the target cosines."""

    beta: float = 0.5
    eps: float = 1e-8


@adapts("IMTLG", "gramian")
@dataclass(frozen=True)
class IMTLG:
    """IMTL-G by a pseudo-inverse."""


@adapts("Krum", "gramian")
@dataclass(frozen=True)
class Krum:
    """n_byzantine: rows that may be hostile (TorchJD has no default); it needs three tasks more than that."""

    n_byzantine: int = 0
    n_selected: int = 1


@adapts("Mean", "losses")
@dataclass(frozen=True)
class Mean:
    """1/m for every task."""


@adapts("MGDA", "gramian")
@dataclass(frozen=True)
class MGDA:
    """Frank-Wolfe, until a step is below epsilon or there were max_iters."""

    epsilon: float = 0.001
    max_iters: int = 100


@adapts("MoDoWeighting", "gramian", keeps=frozenset({"_lambda"}))
@dataclass(frozen=True)
class MoDo:
    """gamma: step size of the weights. rho: their regularisation."""

    gamma: float = 0.1
    rho: float = 0.1


@adapts("NashMTL", "jacobian", keeps=frozenset({"prvs_alpha", "step"}), size="n_tasks")
@dataclass(frozen=True)
class NashMTL:
    """The convex-concave procedure of the released code, solved by ECOS."""

    max_norm: float = 1.0
    update_weights_every: int = 1
    optim_niter: int = 20


@adapts("PCD", "gramian", keeps=frozenset({"_sq_norm_ema", "_n_steps"}))
@dataclass(frozen=True)
class PCD:
    """Primary task first: task 0 is the primary one."""

    tau: float = 0.02
    beta: float = 0.999
    eps: float = 1e-8


@adapts("PCGrad", "gramian")
@dataclass(frozen=True)
class PCGrad:
    """Projections in an order drawn at each step."""


@adapts("Random", "losses")
@dataclass(frozen=True)
class Random:
    """Softmax of normal draws (RLW)."""


@adapts("SDMGradWeighting", "gramian", keeps=frozenset({"_w"}))
@dataclass(frozen=True)
class SDMGrad:
    """lr, momentum, n_iter: of the inner problem. lambda_: pull towards pref_vector (m,), or nothing for 1/m."""

    lr: float = 10.0
    momentum: float = 0.5
    n_iter: int = 20
    lambda_: float = 0.3
    pref_vector: tuple[float, ...] = ()


@adapts("Sum", "losses")
@dataclass(frozen=True)
class Sum:
    """1 for every task."""


@adapts("TrimmedMean", "jacobian", weighs=False)
@dataclass(frozen=True)
class TrimmedMean:
    """trim_number: values dropped at either end, entry by entry (TorchJD has no default)."""

    trim_number: int = 1


@adapts("UPGrad", "gramian")
@dataclass(frozen=True)
class UPGrad:
    """pref_vector: (m,), or nothing for 1/m."""

    pref_vector: tuple[float, ...] = ()


@adapts("COSMOS", "losses", scalarizer=True)
@dataclass(frozen=True)
class COSMOS:
    """lambda_: weight of the cosine (TorchJD has no default). weights: (m,), or nothing for 1/m."""

    lambda_: float = 1.0
    weights: tuple[float, ...] = ()


@adapts("DWA", "losses", scalarizer=True)
@dataclass(frozen=True)
class DWA:
    """Dynamic weight average."""

    temperature: float = 2.0


@adapts("FAMO", "losses", scalarizer=True, size="shape", post_step_hook=True)
@dataclass(frozen=True)
class FAMO:
    """min_losses: (m,), or nothing for 0."""

    min_losses: tuple[float, ...] = ()
    lr: float = 0.025
    weight_decay: float = 1e-3


@adapts("GeometricMean", "losses", scalarizer=True)
@dataclass(frozen=True)
class GeometricMean:
    """The geometric mean of the losses (GLS)."""


@adapts("IMTLL", "losses", scalarizer=True, size="shape", learns=True)
@dataclass(frozen=True)
class IMTLL:
    """IMTL-L alone. lr: ours."""

    lr: float = 0.025


@adapts("PBI", "losses", scalarizer=True)
@dataclass(frozen=True)
class PBI:
    """theta: weight of the distance (TorchJD has no default). weights: (m,), or nothing for 1/m."""

    theta: float = 1.0
    weights: tuple[float, ...] = ()
    reference: tuple[float, ...] = ()


@adapts("STCH", "losses", scalarizer=True)
@dataclass(frozen=True)
class STCH:
    """mu: smoothing (TorchJD has no default). weights: (m,), or nothing for 1/m."""

    mu: float = 1.0
    weights: tuple[float, ...] = ()
    reference: tuple[float, ...] = ()


@adapts("UW", "losses", scalarizer=True, size="shape", learns=True)
@dataclass(frozen=True)
class UW:
    """Uncertainty weighting. lr: ours."""

    lr: float = 0.025


WEIGHTINGS: Mapping[str, type[Any]] = {
    "aligned_mtl": AlignedMTL,
    "cagrad": CAGrad,
    "config": ConFIG,
    "constant": Constant,
    "cr_mogm": CRMOGM,
    "dualproj": DualProj,
    "excess_mtl": ExcessMTL,
    "fairgrad": FairGrad,
    "graddrop": GradDrop,
    "gradvac": GradVac,
    "imtl_g": IMTLG,
    "krum": Krum,
    "mean": Mean,
    "mgda": MGDA,
    "modo": MoDo,
    "nash_mtl": NashMTL,
    "pcd": PCD,
    "pcgrad": PCGrad,
    "random": Random,
    "sdmgrad": SDMGrad,
    "sum": Sum,
    "trimmed_mean": TrimmedMean,
    "upgrad": UPGrad,
    "cosmos": COSMOS,
    "dwa": DWA,
    "famo": FAMO,
    "geometric_mean": GeometricMean,
    "imtl_l": IMTLL,
    "pbi": PBI,
    "stch": STCH,
    "uw": UW,
}

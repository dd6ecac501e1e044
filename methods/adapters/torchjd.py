"""The weightings of TorchJD 0.18.0 under our contract, as found, errors included.

Every aggregator gets the smallest input that it accepts: the Gramian (most), the Gramian of two batches (SDMGrad,
MoDo), the number of tasks (Mean, Sum, Constant, Random), or the Jacobian. Task-specific heads keep their plain
gradients, as in `torchjd.autojac.mtl_backward`. Scalarizers get the losses. Their gradient in the losses is the
weights, also for the task-specific heads, as in `backward` on the scalar. The kinds are described in
`methods.adapters.torchjd_kinds`.

What was added:
- DWA's `step` is called at the end of every epoch.
- An option without a default got one. Its docstring says so.
- The learned scales of UW and IMTLL are driven by Adam with `lr`, without weight decay.
- Random draws come from the run's own generator instead of the global one.

A weighting's whole state is in `State`, so it can be checkpointed. Objects of TorchJD are cached to avoid building them
again; every step first restores their state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from methods.adapters.bridge import import_peer, translate_peer_errors
from methods.adapters.torchjd_kinds import (
    CrossGramianAdapter,
    DirectionAdapter,
    GramianAdapter,
    JacobianAdapter,
    LearnedScalarizerAdapter,
    Memory,
    ScalarizerAdapter,
    UniformAdapter,
)
from methods.contract import Signal, State

VERSION = "0.18.0"


@dataclass(frozen=True)
class AlignedMTL(GramianAdapter):
    """Independent component alignment.

    pref_vector: (m,); empty for 1/m.
    scale_mode: "min", "median" or "rmse".
    """

    peer = "AlignedMTL"

    pref_vector: tuple[float, ...] = ()
    scale_mode: str = "min"


@dataclass(frozen=True)
class CAGrad(GramianAdapter):
    """c: radius of the ball (no default in TorchJD)."""

    peer = "CAGrad"

    c: float = 0.4
    norm_eps: float = 0.0001


@dataclass(frozen=True)
class ConFIG(DirectionAdapter):
    """pref_vector: (m,); empty for 1."""

    peer = "ConFIG"

    pref_vector: tuple[float, ...] = ()


@dataclass(frozen=True)
class Constant(UniformAdapter):
    """weights: (m,); empty for 1/m (no default in TorchJD)."""

    peer = "Constant"

    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class CRMOGM(GramianAdapter):
    """inner: the weighting whose weights are smoothed; it must have no options of its own (no default in TorchJD)."""

    peer = "CRMOGMWeighting"
    state_names = ("_lambda",)

    inner: str = "MGDA"
    alpha: float = 0.9

    def arguments(self, n_tasks: int, like: Tensor) -> dict[str, Any]:
        arguments = super().arguments(n_tasks, like)
        weighting = getattr(import_peer(f"torchjd.{self.module}", "TorchJD"), f"{arguments.pop('inner')}Weighting")
        return {"weighting": weighting(), **arguments}


@dataclass(frozen=True)
class DualProj(GramianAdapter):
    """pref_vector: (m,); empty for 1/m."""

    peer = "DualProj"

    pref_vector: tuple[float, ...] = ()


@dataclass(frozen=True)
class ExcessMTL(JacobianAdapter):
    """Its state is as large as the Jacobian."""

    peer = "ExcessMTL"
    state_names = ("_weights", "_sq_grad_sum", "_initial_w", "_warmup_w_sum", "_n_steps")

    robust_step_size: float = 1.0
    n_warmup_steps: int = 0

    def allocate(self, peer: Any, matrix: Tensor) -> None:
        peer._ensure_state(matrix)


@dataclass(frozen=True)
class FairGrad(GramianAdapter):
    """alpha: kind of fairness (no default in TorchJD)."""

    peer = "FairGrad"

    alpha: float = 1.0
    max_iters: int | None = None


@dataclass(frozen=True)
class GradDrop(DirectionAdapter):
    """leak: (m,); empty for 0."""

    peer = "GradDrop"

    leak: tuple[float, ...] = ()


@dataclass(frozen=True)
class GradVac(GramianAdapter):
    """beta: decay of the target cosines."""

    peer = "GradVac"
    state_names = ("_phi_t",)

    beta: float = 0.5
    eps: float = 1e-8

    def allocate(self, peer: Any, matrix: Tensor) -> None:
        peer._ensure_state(len(matrix), matrix.dtype)


@dataclass(frozen=True)
class IMTLG(GramianAdapter):
    """IMTL-G by a pseudo-inverse."""

    peer = "IMTLG"


@dataclass(frozen=True)
class Krum(GramianAdapter):
    """n_byzantine: rows that may be hostile (no default in TorchJD); at least n_byzantine + 3 tasks are needed."""

    peer = "Krum"

    n_byzantine: int = 0
    n_selected: int = 1


@dataclass(frozen=True)
class Mean(UniformAdapter):
    """1/m for every task."""

    peer = "Mean"


@dataclass(frozen=True)
class MGDA(GramianAdapter):
    """Frank-Wolfe, until a step is smaller than epsilon or after max_iters steps."""

    peer = "MGDA"

    epsilon: float = 0.001
    max_iters: int = 100


@dataclass(frozen=True)
class MoDo(CrossGramianAdapter):
    """Weights that follow the gradient of the norm of the combined gradient.

    gamma: step size of the weights.
    rho: regularisation of the weights.
    """

    peer = "MoDoWeighting"
    state_names = ("_lambda",)
    batches = 2

    gamma: float = 0.1
    rho: float = 0.1

    def allocate(self, peer: Any, matrix: Tensor) -> None:
        peer._ensure_state(matrix)


@dataclass(frozen=True)
class NashMTL(JacobianAdapter):
    """The convex-concave procedure of the released code, solved by ECOS."""

    peer = "NashMTL"
    state_names = ("prvs_alpha", "step")

    max_norm: float = 1.0
    update_weights_every: int = 1
    optim_niter: int = 20

    def arguments(self, n_tasks: int, like: Tensor) -> dict[str, Any]:
        return {"n_tasks": n_tasks, **super().arguments(n_tasks, like)}

    def restore(self, peer: Any, matrix: Tensor, memory: Memory) -> None:
        if not memory:
            super().restore(peer, matrix, memory)
            return
        peer.step, peer.prvs_alpha = float(memory["step"]), memory["prvs_alpha"].cpu().clone().numpy()
        if peer.prvs_alpha_param is None:
            peer._init_optim_problem()


@dataclass(frozen=True)
class PCD(GramianAdapter):
    """Primary task first; task 0 is the primary one."""

    peer = "PCD"
    state_names = ("_sq_norm_ema", "_n_steps")

    tau: float = 0.02
    beta: float = 0.999
    eps: float = 1e-8

    def allocate(self, peer: Any, matrix: Tensor) -> None:
        peer._ensure_state(len(matrix))


@dataclass(frozen=True)
class PCGrad(GramianAdapter):
    """Projections in an order drawn at each step."""

    peer = "PCGrad"


@dataclass(frozen=True)
class Random(UniformAdapter):
    """Softmax of normal draws (RLW)."""

    peer = "Random"


@dataclass(frozen=True)
class SDMGrad(CrossGramianAdapter):
    """Stochastic direction-oriented multi-objective gradient descent.

    lr, inner_momentum, n_iter: of the inner problem.
    lambda_: strength of the pull towards pref_vector.
    pref_vector: (m,); empty for 1/m.
    """

    peer = "SDMGradWeighting"
    state_names = ("_w",)

    lr: float = 10.0
    inner_momentum: float = 0.5
    n_iter: int = 20
    lambda_: float = 0.3
    pref_vector: tuple[float, ...] = ()

    def arguments(self, n_tasks: int, like: Tensor) -> dict[str, Any]:
        arguments = super().arguments(n_tasks, like)
        return {"momentum": arguments.pop("inner_momentum"), **arguments}

    def allocate(self, peer: Any, matrix: Tensor) -> None:
        peer._ensure_state(matrix)


@dataclass(frozen=True)
class Sum(UniformAdapter):
    """1 for every task."""

    peer = "Sum"


@dataclass(frozen=True)
class TrimmedMean(DirectionAdapter):
    """trim_number: values dropped at each end, entry by entry (no default in TorchJD)."""

    peer = "TrimmedMean"

    trim_number: int = 1


@dataclass(frozen=True)
class UPGrad(GramianAdapter):
    """pref_vector: (m,); empty for 1/m."""

    peer = "UPGrad"

    pref_vector: tuple[float, ...] = ()


@dataclass(frozen=True)
class COSMOS(ScalarizerAdapter):
    """lambda_: weight of the cosine (no default in TorchJD). weights: (m,); empty for 1/m."""

    peer = "COSMOS"

    lambda_: float = 1.0
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class DWA(ScalarizerAdapter):
    """Dynamic weight average."""

    peer = "DWA"

    temperature: float = 2.0

    def replay(self, peer: Any, signal: Signal, memory: Memory) -> dict[str, Tensor]:
        """The memory is the sums of the current epoch and the averages of the last two."""
        if memory:
            peer._loss_sum, peer._n_batches = memory["loss_sum"], int(memory["batches"])
            peer._previous_averages = list(memory["averages"])
            if int(memory["epoch"]) != signal.epoch:
                peer.step()
        averages = peer._previous_averages
        earlier = peer._loss_sum if peer._loss_sum is not None else torch.zeros_like(signal.losses)
        return {
            "loss_sum": earlier + signal.losses,
            "batches": torch.tensor(peer._n_batches + 1),
            "averages": torch.stack(averages) if averages else signal.losses.new_zeros(0, len(signal.losses)),
            "epoch": torch.tensor(signal.epoch),
        }


@dataclass(frozen=True)
class FAMO(ScalarizerAdapter):
    """min_losses: (m,); empty for 0."""

    peer = "FAMO"

    min_losses: tuple[float, ...] = ()
    lr: float = 0.025
    weight_decay: float = 1e-3

    def arguments(self, n_tasks: int, like: Tensor) -> dict[str, Any]:
        return {"shape": n_tasks, **super().arguments(n_tasks, like)}

    def replay(self, peer: Any, signal: Signal, memory: Memory) -> dict[str, Tensor]:
        """The memory is the logits, the moments of their Adam, and the last losses."""
        if memory:
            _restore_famo(peer, memory)
        return {"logits": peer._w.detach().clone(), **memory, "losses": signal.losses.clone()}

    def post_step(self, losses: Tensor, state: State) -> State:
        """FAMO's `update`, with the losses (m,) after the step.

        Raises:
            PeerFailed: TorchJD raised an error.
        """
        losses, memory = losses.cpu(), {name: values.cpu() for name, values in state.memory.items()}
        with translate_peer_errors(f"TorchJD's {self.peer}", "the end of a step"):
            peer = self.build(len(losses), losses).double()
            _restore_famo(peer, memory)
            peer.update(losses)
        moments = {name: peer._optimizer.state[peer._w][name].clone() for name in _MOMENTS}
        return State(memory={"logits": peer._w.detach().clone(), "losses": losses.clone(), **moments})


_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def _restore_famo(peer: Any, memory: Memory) -> None:
    peer._w.data.copy_(memory["logits"])
    peer._prev_losses = memory["losses"]
    peer._optimizer = torch.optim.Adam([peer._w], lr=peer.lr, weight_decay=peer.weight_decay)
    if "step" in memory:
        peer._optimizer.state[peer._w] = {name: memory[name].clone() for name in _MOMENTS}


@dataclass(frozen=True)
class GeometricMean(ScalarizerAdapter):
    """The geometric mean of the losses (GLS)."""

    peer = "GeometricMean"


@dataclass(frozen=True)
class IMTLL(LearnedScalarizerAdapter):
    """IMTL-L alone. lr: not an option of TorchJD."""

    peer = "IMTLL"

    lr: float = 0.025


@dataclass(frozen=True)
class PBI(ScalarizerAdapter):
    """theta: weight of the distance (no default in TorchJD). weights: (m,); empty for 1/m."""

    peer = "PBI"

    theta: float = 1.0
    weights: tuple[float, ...] = ()
    reference: tuple[float, ...] = ()


@dataclass(frozen=True)
class STCH(ScalarizerAdapter):
    """mu: smoothing (no default in TorchJD). weights: (m,); empty for 1/m."""

    peer = "STCH"

    mu: float = 1.0
    weights: tuple[float, ...] = ()
    reference: tuple[float, ...] = ()


@dataclass(frozen=True)
class UW(LearnedScalarizerAdapter):
    """Uncertainty weighting. lr: not an option of TorchJD."""

    peer = "UW"

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

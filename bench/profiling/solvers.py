"""How long one step of a weighting takes and how exact it is, beside the solvers of other packages.

All contestants of a row get the same Gramians and take turns in the same rounds, on one thread. What a peer does
around its solver is left out as far as it can be: TorchJD maps a Gramian to weights, so that alone is timed. LibMTL's
solvers sit inside the `backward` of a model; they get one with a single vector of shared parameters and losses that
are linear in it, and that `backward` is timed, m backward passes through a product of vectors included.
"""

from __future__ import annotations

import random
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from methods import WEIGHTINGS
from methods.adapters import libmtl
from methods.adapters.bridge import PeerUnavailable, import_peer, nearest_weights
from methods.contract import Signal, State
from methods.weightings.cagrad import CAGrad
from methods.weightings.fairgrad import FairGrad

TASKS = (2, 3, 4, 11, 40)
OURS, LIBMTL, TORCHJD = "ours", "LibMTL", "TorchJD"
PEERS = {"libmtl": LIBMTL, "torchjd": TORCHJD}

# The norms of the gradients of a problem spread over 10^±x.
EVEN, UNEVEN = "even", "uneven"
SPREADS = {EVEN: 0.0, UNEVEN: 3.0}
_SEEDS = 2
_CAGRAD_C = CAGrad().c
# Whoever has used so many seconds on a Gramian has been timed often enough.
_PATIENCE = 0.3
# Calls in a row before the next contestant has its turn; the first isn't counted.
_TURN = 3
_SLOW = 0.01

Vector = NDArray[np.float64]
Solver = Callable[[], Tensor]


@dataclass(frozen=True)
class Problem:
    """A step as every contestant sees it; kind: "even" or "uneven" gradient norms."""

    kind: str
    seed: int
    signal: Signal


@dataclass(frozen=True)
class Timing:
    """milliseconds: median of a step; None where it failed, with the fault. residual: None without a criterion."""

    weighting: str
    tasks: int
    kind: str
    seed: int
    contestant: str
    milliseconds: float | None
    residual: float | None
    fault: str = ""


def problems(m: int) -> Iterator[Problem]:
    """Steps with m tasks, the same at every call."""
    for kind, spread in SPREADS.items():
        for seed in range(_SEEDS):
            rng = np.random.default_rng([m, seed])
            rows = rng.normal(size=(m, 3 * m + 5)) * 10 ** rng.uniform(-spread, spread, size=(m, 1))
            losses = torch.from_numpy(rng.uniform(0.5, 2.0, size=m))
            jacobian = torch.from_numpy(rows)
            generator = torch.Generator().manual_seed(seed)
            yield Problem(kind, seed, Signal(losses, jacobian @ jacobian.T, 0, 0, generator, jacobian))


def installed(peers: Sequence[str]) -> dict[str, str]:
    """Of every peer "" or, in one line, why it can't be had."""
    missing = {}
    for peer in peers:
        try:
            libmtl.weightings() if peer == LIBMTL else import_peer("torchjd.aggregation", TORCHJD)
            missing[peer] = ""
        except PeerUnavailable as error:
            missing[peer] = str(error)
    return missing


def measure(tasks: Sequence[int], peers: Sequence[str], rounds: int) -> Iterator[Timing]:
    """Times every registered weighting and its counterparts, in `rounds` turns each after a call that warms up."""
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cvxpy, about problems that it can't solve well; the residual tells
        torch.set_num_threads(1)
        for name in WEIGHTINGS:
            for m in tasks:
                for problem in problems(m):
                    yield from _race(name, problem, peers, rounds)


def _race(name: str, problem: Problem, peers: Sequence[str], rounds: int) -> Iterator[Timing]:
    m = len(problem.signal.losses)
    faults: dict[str, str] = {}
    runners: dict[str, Solver] = {}
    answers: dict[str, Tensor] = {}
    seconds: dict[str, list[float]] = {}
    for contestant in (OURS, *peers):
        try:
            solver = _solver(contestant, name, problem.signal)
            if solver is not None:
                seconds[contestant], answers[contestant] = [], solver()
                runners[contestant] = solver
        except Exception as error:
            if contestant == OURS:
                raise
            seconds.pop(contestant, None)
            faults[contestant] = f"{type(error).__name__}: {error}".splitlines()[0]
    for _ in range(rounds):
        for contestant, solver in runners.items():
            if sum(seconds[contestant]) < _PATIENCE:
                seconds[contestant] += _turn(solver)
    where = (name, m, problem.kind, problem.seed)
    for contestant in runners:
        left = residual(name, problem.signal, answers[contestant], contestant)
        yield Timing(*where, contestant, 1e3 * statistics.median(seconds[contestant]), left)
    for contestant, fault in faults.items():
        yield Timing(*where, contestant, None, None, fault)


def _turn(solver: Solver) -> list[float]:
    """Seconds of each call but the first, which finds the caches full of what another contestant left there.

    A slow solver takes a single call, which counts: caches are nothing to it, and it has warmed up before.
    """
    seconds = []
    for _ in range(_TURN):
        start = time.perf_counter()
        solver()
        seconds.append(time.perf_counter() - start)
        if seconds[0] > _SLOW:
            return seconds
    return seconds[1:]


def _solver(contestant: str, name: str, signal: Signal) -> Solver | None:
    """A call that takes one step and gives the weights, or the direction; None without a counterpart."""
    if contestant == TORCHJD:
        make = _TORCHJD.get(name)
        return make(import_peer("torchjd.aggregation", TORCHJD), signal) if make else None
    if contestant == LIBMTL:
        return _linear_model(*_LIBMTL[name], signal) if name in _LIBMTL else None
    return _own(name, signal)


def _own(name: str, signal: Signal) -> Solver:
    weighting = WEIGHTINGS[name].factory()
    state: State = weighting.init(len(signal.losses))
    return lambda: weighting.step(signal, state).weights


def _on_gramian(peer: str, **options: Any) -> Callable[[Any, Signal], Solver]:
    def make(module: Any, signal: Signal) -> Solver:
        weighting = getattr(module, peer)(**options)
        return lambda: weighting(signal.required_gramian())

    return make


def _on_jacobian(peer: str) -> Callable[[Any, Signal], Solver]:
    def make(module: Any, signal: Signal) -> Solver:
        weighting = getattr(module, peer)()
        return lambda: weighting(signal.required_jacobian())

    return make


def _nash(module: Any, signal: Signal) -> Solver:
    """It goes on from its last solution, as in training; what is judged is the first."""
    weighting = module.NashMTL(n_tasks=len(signal.losses)).weighting
    return lambda: weighting(signal.required_jacobian())


# Our name -> their counterpart, with the options that ours has by default.
_TORCHJD: Mapping[str, Callable[[Any, Signal], Solver]] = {
    "ew": _on_jacobian("SumWeighting"),
    "rlw": _on_jacobian("RandomWeighting"),
    "mgda": _on_gramian("MGDAWeighting"),
    "pcgrad": _on_gramian("PCGradWeighting"),
    "imtl": _on_gramian("IMTLGWeighting"),
    "cagrad": _on_gramian("CAGradWeighting", c=_CAGRAD_C),
    "nash_mtl": _nash,
    "gradvac": _on_gramian("GradVacWeighting"),
    "aligned_mtl": _on_gramian("AlignedMTLWeighting"),
    "fairgrad": _on_gramian("FairGradWeighting", alpha=FairGrad().alpha),
    "upgrad": _on_gramian("UPGradWeighting"),
    "excess_mtl": _on_jacobian("ExcessMTLWeighting"),
    "graddrop": _on_jacobian("GradDrop"),
}
_LIBMTL: Mapping[str, tuple[str, dict[str, Any]]] = {
    "ew": ("EW", {}),
    "uw": ("UW", {}),
    "dwa": ("DWA", {"T": 2.0}),
    "rlw": ("RLW", {"dist": "Normal"}),
    "gls": ("GLS", {}),
    "mgda": ("MGDA", {"mgda_gn": "none"}),
    "pcgrad": ("PCGrad", {}),
    "imtl": ("IMTL", {}),
    "cagrad": ("CAGrad", {"calpha": _CAGRAD_C, "rescale": 1}),
    "gradvac": ("GradVac", {"beta": 0.5}),
}


def _linear_model(peer: str, options: Mapping[str, Any], signal: Signal) -> Solver:
    """LibMTL's weighting as a model whose losses are L + Jθ at θ = 0, in single precision, as LibMTL works."""
    base: type[Any] = getattr(libmtl.weightings(), peer)
    rows, losses = signal.required_jacobian().float(), signal.losses.float()
    shared = torch.nn.Parameter(torch.zeros(rows.shape[1]))

    def clear(model: Any) -> None:
        # LibMTL writes into gradients after it has cleared them, so they can't be None.
        shared.grad = torch.zeros_like(shared)

    model = type(peer, (base,), {"get_share_params": lambda model: [shared], "zero_grad_share_params": clear})()
    model.task_num, model.device, model.rep_grad, model.epoch = len(losses), rows.device, False, 0
    model.task_name = [str(task) for task in range(len(losses))]
    model.train_loss_buffer = np.zeros((len(losses), 1))
    model.init_param()

    def step() -> Tensor:
        clear(model)
        random.seed(0)
        model.backward(losses + rows @ shared, **options)
        assert shared.grad is not None
        return shared.grad

    return step


def residual(name: str, signal: Signal, answer: Tensor, contestant: str) -> float | None:
    """How far an answer, weights (m,) or a direction (P,), is from what defines the method; 0 is exact."""
    criterion = _CRITERIA.get(name)
    if criterion is None:
        return None
    gramian, answer = signal.required_gramian(), answer.detach().double()
    # The Jacobians here have more columns than rows, so the length tells which it is.
    weights = answer if len(answer) == len(gramian) else nearest_weights(gramian, signal.required_jacobian(), answer)
    if not torch.isfinite(weights).all():
        return float("inf")
    scale = 1.0 if contestant == TORCHJD else 1 + _CAGRAD_C**2
    return criterion(gramian.numpy(), weights.numpy() * (scale if name == "cagrad" else 1.0))


def kkt_gap(gramian: Vector, weights: Vector) -> float:
    """By how much a task's product with the combination falls short of its squared norm, over the largest ‖g_i‖²."""
    products = gramian @ weights
    return float((weights @ products - products.min()) / gramian.diagonal().max())


def bargain_gap(gramian: Vector, weights: Vector) -> float:
    """max |s²a(Ga) − 1| for the scale s > 0 that makes it least; clips are not held against a solver."""
    gains = weights * (gramian @ weights)
    return float((gains.max() - gains.min()) / (gains.max() + gains.min())) if gains.max() + gains.min() > 0 else 1.0


def projection_spread(gramian: Vector, weights: Vector) -> float:
    """(largest − least projection on a unit gradient) / largest magnitude of one."""
    projections = gramian @ weights / np.sqrt(gramian.diagonal())
    return float((projections.max() - projections.min()) / np.abs(projections).max())


def dual_gap(gramian: Vector, weights: Vector) -> float:
    """Optimality gap of CAGrad's dual, over the largest ‖g_i‖², at the w that the weights mean, scaled to Σw = 1."""
    excess = weights - 1 / len(weights)
    w = np.maximum(excess / excess.sum(), 0.0) if excess.sum() > 0 else np.full(len(weights), 1 / len(weights))
    combined = gramian @ w
    slope = gramian.mean(axis=1) + _CAGRAD_C * np.sqrt(gramian.mean() / (w @ combined)) * combined
    return float((w @ slope - slope.min()) / gramian.diagonal().max())


def conflict(gramian: Vector, weights: Vector) -> float:
    """−(least cosine between the combination and a gradient), 0 without conflict."""
    products = gramian @ weights
    cosines = products / np.sqrt(gramian.diagonal() * max(float(weights @ products), np.finfo(np.float64).tiny))
    return float(max(-cosines.min(), 0.0))


_CRITERIA: Mapping[str, Callable[[Vector, Vector], float]] = {
    "mgda": kkt_gap,
    "nash_mtl": bargain_gap,
    "imtl": projection_spread,
    "cagrad": dual_gap,
    "upgrad": conflict,
}

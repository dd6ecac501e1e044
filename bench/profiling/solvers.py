"""How long one step of a weighting takes and how exact it is, beside the solvers of LibMTL and TorchJD.

All candidates run on one thread and get a step as training makes it: losses, a float32 Jacobian and its Gramian.
As ours do, TorchJD's map one of these to weights or to a direction, from tensor to tensor; nothing else is timed.
LibMTL's solvers are part of the `backward` of a model, so a model is made for them: its only parameters are one shared
vector, in which its losses are linear. The time of its `backward` includes m backward passes through a product of a
matrix and that vector.
"""

from __future__ import annotations

import functools
import random
import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from bench.profiling.gradients import FAMILIES, REGULAR, jacobian
from bench.profiling.harness import Candidate, Sample, run_benchmark, timed
from bench.records.speed import OURS
from methods import WEIGHTINGS
from methods.adapters import libmtl
from methods.adapters.bridge import import_peer, nearest_weights
from methods.adapters.counterparts import COUNTERPARTS, LIBMTL, TORCHJD, methods_in, torchjd_object
from methods.contract import Signal, State
from methods.optimality import CRITERIA
from methods.rows import gramian_of

TASKS = (2, 3, 5, 13, 40)
# A candidate whose samples on a Gramian have taken more than this many seconds is not sampled again.
_PATIENCE = 0.3
# LibMTL's implementations need more than one step on a vector: a representation, or the losses of an earlier epoch.
_NEED_A_NETWORK = ("graddrop", "gradnorm")

Solver = Callable[[], Tensor]


@dataclass(frozen=True)
class Problem:
    """The input of a step, the same for every candidate, from a family of gradients."""

    family: str
    signal: Signal


@dataclass(frozen=True)
class Solution:
    """How a candidate solved one problem.

    milliseconds: of a step, the median; None if it failed.
    residual: of the first answer; None if the weighting has no criterion, the step failed, or the gradients are
        dependent, at least in single precision.
    error: what was raised, in one line.
    """

    weighting: str
    tasks: int
    family: str
    candidate: str
    milliseconds: float | None
    residual: float | None
    error: str = ""


def problems(m: int) -> Iterator[Problem]:
    """A step with m tasks for every family of gradients, the same at every call."""
    losses = torch.linspace(0.5, 2.0, m, dtype=torch.float64)
    for family in FAMILIES:
        rows = torch.from_numpy(jacobian(family, m)).float()
        gramian, generator = gramian_of(rows), torch.Generator().manual_seed(0)
        yield Problem(family, Signal(losses, gramian, 0, 0, generator, rows, cross_gramian=gramian))


def measure(
    tasks: Sequence[int],
    packages: Sequence[str],
    rounds: int,
    on_weighting: Callable[[str], None] = lambda name: None,
) -> Iterator[Solution]:
    """Times every registered weighting and its counterparts on every family of gradients."""
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from cvxpy, about inaccurate solutions; the residual shows them
        torch.set_num_threads(1)
        for name in WEIGHTINGS:
            for m in tasks:
                on_weighting(f"{name}, m = {m}")
                for problem in problems(m):
                    yield from _measure_one(name, problem, packages, rounds)


def _measure_one(name: str, problem: Problem, packages: Sequence[str], rounds: int) -> Iterator[Solution]:
    answers: dict[str, Tensor] = {}

    @functools.cache
    def solver(candidate: str) -> Solver:
        found = _SOLVERS[candidate](name, problem.signal)
        answers[candidate] = found()
        return found

    def call(candidate: str) -> Sample:
        return timed(solver(candidate))

    having = [OURS, *(package for package in packages if name in _solvers_in(package))]
    candidates = [Candidate(name, one, partial(call, one), may_fail=one != OURS) for one in having]
    for result in run_benchmark(candidates, rounds, warmup=0, patience=_PATIENCE):
        times = result.milliseconds
        yield Solution(
            name,
            len(problem.signal.losses),
            problem.family,
            result.candidate,
            statistics.median(times) if times else None,
            residual(name, problem.signal, answers[result.candidate])
            if problem.family in REGULAR and not result.error
            else None,
            result.error,
        )


def _solvers_in(package: str) -> set[str]:
    if package == TORCHJD:
        return {name for name in methods_in(TORCHJD) if COUNTERPARTS[name].aggregator}
    return set(methods_in(LIBMTL)) - set(_NEED_A_NETWORK)


def _own(name: str, signal: Signal) -> Solver:
    settings = COUNTERPARTS[name].settings if name in COUNTERPARTS else {}
    weighting = WEIGHTINGS[name].factory(**settings)
    state: State = weighting.init(len(signal.losses))
    return lambda: weighting.step(signal, state).weights


def _torchjd(name: str, signal: Signal) -> Solver:
    """The part of the aggregator that maps a Gramian or a Jacobian to weights; all of it if it has no such part."""
    aggregator = torchjd_object(name, "aggregator", len(signal.losses))
    if WEIGHTINGS[name].factory().needs == "cross_gramian":
        return partial(aggregator, signal.required_cross_gramian())
    if hasattr(aggregator, "gramian_weighting"):
        return partial(aggregator.gramian_weighting, signal.required_gramian())
    # ConFIG has an attribute `weighting`, too, but it holds only the preference.
    weighted = isinstance(aggregator, import_peer("torchjd.aggregation", TORCHJD).WeightedAggregator)
    return partial(aggregator.weighting if weighted else aggregator, signal.required_jacobian())


def _linear_model(name: str, signal: Signal) -> Solver:
    """LibMTL's weighting as a model whose losses are L + Jθ at θ = 0, in single precision, as LibMTL works."""
    counterpart = COUNTERPARTS[name]
    base: type[Any] = getattr(libmtl.weightings(), counterpart.libmtl)
    rows, losses = signal.required_jacobian(), signal.losses.float()
    shared = torch.nn.Parameter(torch.zeros(rows.shape[1]))

    def clear(model: Any) -> None:
        # LibMTL writes into gradients after it has cleared them, so they can't be None.
        shared.grad = torch.zeros_like(shared)

    members = {"get_share_params": lambda model: [shared], "zero_grad_share_params": clear}
    model = type(counterpart.libmtl, (base,), members)()
    model.task_num, model.device, model.rep_grad, model.epoch = len(losses), rows.device, False, 0
    model.task_name = [str(task) for task in range(len(losses))]
    model.train_loss_buffer = np.zeros((len(losses), 1))
    model.init_param()

    def step() -> Tensor:
        clear(model)
        random.seed(0)
        model.backward(losses + rows @ shared, **counterpart.libmtl_options)
        assert shared.grad is not None
        return shared.grad

    return step


_SOLVERS: Mapping[str, Callable[[str, Signal], Solver]] = {OURS: _own, LIBMTL: _linear_model, TORCHJD: _torchjd}


def residual(name: str, signal: Signal, answer: Tensor) -> float | None:
    """How far an answer, weights (m,) or a direction (P,), is from the definition of the method: 0 if it is exact."""
    criterion = CRITERIA.get(name)
    if criterion is None:
        return None
    gramian, answer = signal.required_gramian(), answer.detach().double()
    # The Jacobians here have more columns than rows, so the length decides which it is.
    weights = answer if len(answer) == len(gramian) else nearest_weights(gramian, signal.required_jacobian(), answer)
    if not torch.isfinite(weights).all():
        return float("inf")
    return criterion(gramian.numpy(), weights.numpy())

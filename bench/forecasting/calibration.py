"""Checks estimates on this machine: rates fitted to some training steps, and other steps predicted with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from bench.engine.build import build_network
from bench.engine.step import train_step
from bench.engine.train_state import make_train_state
from bench.forecasting.counting import Counts, count_step
from bench.forecasting.roofline import Rates
from bench.profiling.harness import CPU, Candidate, Sample, run_benchmark, timed
from bench.profiling.workloads import Workload
from bench.spec.resolve import RunSpec, resolve
from methods.contract import batches_of

# Where the fit starts: rates of one core.
_FIRST_GUESS = Rates(fp32=3e10, bf16=3e10, bandwidth=5e9, launch=1e-5)


@dataclass(frozen=True)
class Problem:
    """A training step to be timed.

    settings: of the run, by dotted key.
    image_size: (height, width) in pixels.
    fitted: whether the rates are fitted to it; otherwise it is predicted.
    """

    data: str
    method: str
    image_size: tuple[int, int]
    settings: Mapping[str, Any]
    fitted: bool

    @property
    def spec(self) -> RunSpec:
        always = {"backbone.weights": "none", "train.lr": 0.0}
        return resolve(self.data, self.method, seed=0, assignments={**always, **self.settings})

    @property
    def key(self) -> str:
        """The problem without the method, such as "digits, resnet18, 8 × 32×32"."""
        settings, (height, width) = self.spec.settings, self.image_size
        return f"{self.data}, {settings.backbone.name}, {settings.train.batch_size} × {height}×{width}"


@dataclass(frozen=True)
class Checked:
    """A step as measured and as estimated with the fitted rates, in seconds."""

    problem: Problem
    measured: float
    estimated: float

    @property
    def factor(self) -> float:
        """Estimated over measured."""
        return self.estimated / self.measured


@dataclass(frozen=True)
class Calibration:
    """The rates of this machine, and all steps."""

    rates: Rates
    steps: tuple[Checked, ...]


def _problems(
    data: str, image_size: tuple[int, int], fitted: Sequence[str], predicted: Sequence[str], **settings: Any
) -> list[Problem]:
    named = {key.replace("__", "."): value for key, value in settings.items()}
    return [Problem(data, name, image_size, named, name in fitted) for name in (*fitted, *predicted)]


# The fit sees small images, at batches where products, bytes or launches take most of the time. Predicted are other
# problems, losses, methods, numbers of tasks and a deeper network.
PROBLEMS = (
    *_problems("digits", (16, 16), ("ew", "mgda"), ("normal", "graddrop")),
    *_problems("digits", (16, 16), ("ew", "mgda", "normal"), (), train__batch_size=2),
    *_problems("digits", (32, 32), ("ew",), (), train__batch_size=8, backbone__name="resnet18"),
    *_problems("faces", (48, 48), ("ew", "mgda"), ("normal",)),
    *_problems("rooms", (48, 64), (), ("ew", "mgda", "normal", "modo")),
    *_problems("officehome", (64, 64), (), ("ew", "cagrad", "normal"), train__batch_size=8),
    *_problems("officehome", (64, 64), (), ("ew",), train__batch_size=4, backbone__name="resnet50"),
    *_problems("celeba", (32, 32), (), ("ew", "mgda"), train__batch_size=8),
)


def check(problems: Sequence[Problem], rounds: int, show: Callable[[str], None] = lambda name: None) -> Calibration:
    """Takes the fastest of `rounds` samples of every step, since other work on the machine only adds time; fits
    the rates, and estimates all steps.

    show: called with the name of the method before each sample.
    """
    counts = [count_step(problem.spec, problem.image_size) for problem in problems]
    candidates = [Candidate(problem.key, problem.method, _timed_step(problem)) for problem in problems]
    results = run_benchmark(candidates, rounds, CPU, on_sample=show)
    measured = [min(sample.seconds for sample in result.samples) for result in results]
    known = [index for index, problem in enumerate(problems) if problem.fitted]
    rates = fitted([counts[index] for index in known], [measured[index] for index in known])
    steps = [
        Checked(problem, seconds, rates.total(count))
        for problem, seconds, count in zip(problems, measured, counts, strict=True)
    ]
    return Calibration(rates, tuple(steps))


def _timed_step(problem: Problem) -> Callable[[], Sample]:
    """A call that takes and times one step, at a learning rate of 0, so that noise can't diverge."""
    spec = problem.spec
    state = make_train_state(spec, build_network(spec, CPU))
    batch_size, n_tasks = spec.settings.train.batch_size, len(spec.info.tasks)
    batch = Workload(problem.key, "", problem.data, batch_size, problem.image_size, n_tasks).noise(CPU)
    others = [batch] * (batches_of(state.weighting) - 1)
    return lambda: timed(lambda: train_step(state, batch, 0, 0, others=others))


def fitted(counts: Sequence[Counts], seconds: Sequence[float]) -> Rates:
    """The rates of single precision under which the model comes nearest to measured times, in logarithms."""

    def residuals(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
        rates = _rates(logarithms)
        return np.log([rates.total(count) / measured for count, measured in zip(counts, seconds, strict=True)])

    guess = np.log([_FIRST_GUESS.fp32, _FIRST_GUESS.bandwidth, _FIRST_GUESS.launch])
    # A finite difference wide enough to see past the kinks where products and bytes take equally long.
    return _rates(least_squares(residuals, guess, diff_step=1e-2, loss="soft_l1").x)


def _rates(logarithms: NDArray[np.float64]) -> Rates:
    fp32, bandwidth, launch = np.exp(logarithms).tolist()
    return Rates(fp32=fp32, bf16=fp32, bandwidth=bandwidth, launch=launch)

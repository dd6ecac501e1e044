"""Points to try, proposed by Optuna from a fixed seed: quasi-random, or from the scores of earlier trials."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

from bench.tuning.space import DIMENSIONS, Point, Space

Sampler = Literal["qmc", "tpe"]
SAMPLERS: tuple[Sampler, ...] = ("qmc", "tpe")
BATCH = 4  # trials of a batch of the sequential sampler
SEED, SIMPLEX_SEED = 20231, 20232  # of proposals, apart from the seeds of runs

_INSTALL = "pip install -e '.[tune]'"


class TunerUnavailable(Exception):
    """Optuna is not installed."""


def propose(space: Space, sampler: Sampler, count: int, batch: int, scores: Sequence[float]) -> list[Point]:
    """The points of the first trials: all `count` if quasi-random, else as many as the scores determine.

    The first is the default. "tpe" starts with a batch of the quasi-random points; each further batch depends on the
    scores of all batches before it. The same scores give the same points.

    scores: of the first trials, in order; -inf for one that counts as worst.

    Raises:
        TunerUnavailable: Optuna is not installed.
    """
    first = count if sampler == "qmc" else min(batch, count)
    points = [space.default, *quasi_random(space.n_tasks, first - 1)]
    return points if sampler == "qmc" else _sequential(points, count, batch, scores)


def quasi_random(n_tasks: int, count: int) -> list[Point]:
    """The points of a scrambled Sobol sequence, the same for every method."""
    cube = _sobol(DIMENSIONS, count, SEED)
    simplex = _sobol(n_tasks, count, SIMPLEX_SEED)
    return [Point(*both) for both in zip(cube, simplex, strict=True)]


@cache  # all rows of a study share the points
def _sobol(dimensions: int, count: int, seed: int) -> tuple[tuple[float, ...], ...]:
    optuna = _optuna()
    with warnings.catch_warnings():  # that its interface may change; constraints.txt names the version in use
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(sampler=optuna.samplers.QMCSampler(scramble=True, seed=seed))
    space = _cube(dimensions)
    # The sampler takes its dimensions from a finished trial.
    study.add_trial(
        optuna.trial.create_trial(params=dict.fromkeys(space, 0.5), distributions=space, value=0.0),
    )
    return tuple(tuple(study.ask(space).params.values()) for _ in range(count))


def _sequential(start: Sequence[Point], count: int, batch: int, scores: Sequence[float]) -> list[Point]:
    """The points after whole batches that have scores, proposed by the tree-structured Parzen estimator."""
    optuna = _optuna()
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=SEED, n_startup_trials=0, constant_liar=True)
    )
    space = _cube(DIMENSIONS + len(start[0].simplex))
    points = list(start)
    if len(scores) < len(points):
        return points
    for point, score in zip(points, scores, strict=False):
        parameters = dict(zip(space, (*point.cube, *point.simplex), strict=True))
        study.add_trial(optuna.trial.create_trial(params=parameters, distributions=space, value=score))
    while len(points) < count and len(scores) >= len(points):
        trials = [study.ask(space) for _ in range(min(batch, count - len(points)))]
        told = scores[len(points) : len(points) + len(trials)]
        for trial in trials:
            values = tuple(trial.params[name] for name in space)
            points.append(Point(values[:DIMENSIONS], values[DIMENSIONS:]))
        if len(told) == len(trials):
            for trial, score in zip(trials, told, strict=True):
                study.tell(trial, score)
    return points


def _cube(dimensions: int) -> dict[str, Any]:
    optuna = _optuna()
    return {f"u{place:04d}": optuna.distributions.FloatDistribution(0.0, 1.0) for place in range(dimensions)}


def _optuna() -> Any:
    """Optuna, quiet; imported here only, since tuning is the only use of it."""
    try:
        import optuna
    except ImportError as error:
        raise TunerUnavailable(f"Expected Optuna for tuning, found none; install it with `{_INSTALL}`.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna

"""What the steps of an epoch leave for its end: losses and weights to be averaged, and rows of the run's history."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bench.engine.backward import added
from bench.engine.history import History, PartialEpoch
from bench.engine.step import HEAD_WEIGHT, UNCLIPPED, StepResult, on_cpu, require_finite_step
from bench.engine.train_state import TrainState
from bench.records.mean_weights import HEAD_WEIGHTS, UNCLIPPED_WEIGHTS
from methods.contract import Evaluations

# What a step calls the numbers in these columns of the curve.
_FURTHER = {HEAD_WEIGHTS: HEAD_WEIGHT, UNCLIPPED_WEIGHTS: UNCLIPPED}


class EpochLog:
    """The results of an epoch's steps. It goes on from a partial epoch of the history, which then has none any more.

    further: which further weights to average, by their columns of the curve.
    seconds: of the steps, as of the last `pause`.
    """

    def __init__(self, state: TrainState, history: History, further: Sequence[str]) -> None:
        partial, history.partial = history.partial, None
        self._state, self._history = state, history
        self._unread: list[StepResult] = []
        self._losses: list[Tensor] = list(partial.losses) if partial else []
        self._weights: list[Tensor] = list(partial.weights) if partial else []
        self._further: dict[str, list[Tensor]] = {
            name: list(partial.further[name]) if partial else [] for name in further
        }
        self.seconds = partial.seconds if partial else 0.0
        self._since = time.perf_counter()

    @property
    def steps(self) -> int:
        """Steps of this epoch so far."""
        return len(self._losses) + len(self._unread)

    def add(self, result: StepResult) -> None:
        """Takes the result of the next step."""
        self._unread.append(result)

    def read(self) -> None:
        """Logs the steps since the last call, and reads from an accelerator what they left there.

        Raises:
            Diverged: a number is not finite. The history then ends before that step, as on a CPU.
        """
        unread, self._unread = self._unread, []
        for result in on_cpu(unread) if unread else []:
            require_finite_step(self._state, result, self._history.steps)
            self._history.steps += 1
            _log_step(self._state, result, self._history)
            self._losses.append(result.losses)
            self._weights.append(result.weights)
            for name, values in self._further.items():
                values.append(result.further[_FURTHER[name]])

    def pause(self) -> None:
        """Stops the time of the steps until `go_on`."""
        self.seconds += time.perf_counter() - self._since

    def go_on(self) -> None:
        """Counts the time of the steps from now on."""
        self._since = time.perf_counter()

    def so_far(self, streams: Sequence[Mapping[str, Tensor]]) -> History:
        """The history after the steps that were read, with their partial epoch. Validation doesn't change it.

        streams: as in `PartialEpoch`.
        """
        partial = PartialEpoch(
            steps=len(self._losses),
            seconds=self.seconds,
            losses=torch.stack(self._losses),
            weights=torch.stack(self._weights),
            further={name: torch.stack(values) for name, values in self._further.items()},
            streams=[dict(of_process) for of_process in streams],
        )
        history = self._history
        return replace(
            history,
            partial=partial,
            curve=list(history.curve),
            last_tests=list(history.last_tests),
            best_by_task=dict(history.best_by_task),
        )

    def means(self) -> tuple[list[float], list[float], list[float]]:
        """The mean losses, weights and further weights over the steps that were read."""
        losses, weights, *others = (
            torch.stack(values).mean(dim=0).tolist()
            for values in (self._losses, self._weights, *self._further.values())
        )
        return losses, weights, [value for mean in others for value in mean]


def _log_step(state: TrainState, result: StepResult, history: History) -> None:
    """Appends the positions, recorded cosines and evaluations of a step; counts its fallbacks."""
    state.solver_fallbacks += int(result.fallbacks)
    if result.positions is not None:
        history.positions.append([history.steps, *result.positions.tolist()])
    if result.cosines is not None:
        m = len(result.cosines)
        rows, columns = torch.triu_indices(m, m, offset=1)
        history.cosines.append([history.steps, *result.cosines[rows, columns].tolist()])
    if result.evaluations is not None:
        total = added(Evaluations(*history.evaluations), result.evaluations)
        assert total is not None
        history.evaluations = (total.forward, total.backward)

"""What both adapters share: finding the package, its randomness, and weights read off a direction."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType

import torch
from torch import Tensor

from methods.contract import Signal, State, Update

INSTALL = "pip install -e '.[peers]'"


class PeerUnavailable(ValueError):
    """The package isn't installed, or its weighting refuses these options or this number of tasks."""


class PeerFailed(RuntimeError):
    """The package's weighting raised an error at a step of training."""


def import_peer(module: str, package: str) -> ModuleType:
    """The package's module.

    Raises:
        PeerUnavailable: it can't be imported; one line with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise PeerUnavailable(f"{package} can't be imported ({error}); install it with: {INSTALL}") from error


def on_cpu(signal: Signal, state: State) -> tuple[Signal, State]:
    """The same with everything on the CPU but the Jacobian. It waits for the device.

    The packages make what they learn on the CPU, and read values at every step.
    """
    gramian = None if signal.gramian is None else signal.gramian.cpu()
    memory = {name: values.cpu() for name, values in state.memory.items()}
    return replace(signal, losses=signal.losses.cpu(), gramian=gramian), State(memory)


def try_once(step: Callable[[Signal, State], Update], state: State, n_tasks: int) -> None:
    """Takes a step on orthonormal gradients, so that what can't work shows before training.

    Raises:
        PeerUnavailable: the step failed.
    """
    eye = torch.eye(n_tasks, dtype=torch.float64)
    losses = torch.ones(n_tasks, dtype=torch.float64)
    try:
        step(Signal(losses, eye, 0, 0, torch.Generator().manual_seed(0), eye.float(), cross_gramian=eye), state)
    except PeerFailed as error:
        raise PeerUnavailable(str(error)) from error


@contextmanager
def translate_peer_errors(name: str, when: str) -> Iterator[None]:
    """Turns whatever the package raises into one error that says who failed and when."""
    try:
        yield
    except PeerUnavailable:
        raise
    except Exception as error:
        raise PeerFailed(f"{name} failed at {when}: {type(error).__name__}: {error}") from error


@contextmanager
def drawing_from(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Seeds the global random streams, which both packages draw from, by our own, and puts them back afterwards."""
    seed = int(torch.randint(2**62, (), generator=generator))
    python_state = random.getstate()
    with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
        torch.manual_seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)


def nearest_weights(gramian: Tensor, jacobian: Tensor, direction: Tensor) -> Tensor:
    """The weights (m,) whose combination of the rows comes nearest to `direction` (P,); nan where that isn't finite.

    They are exact where the direction is such a combination and the rows are independent. The Gramian is on the CPU, as
    are the weights; rows and direction may be elsewhere.
    """
    if not torch.isfinite(direction).all():
        return torch.full_like(gramian.diagonal(), torch.nan)
    norms = gramian.diagonal().clamp_min(0).sqrt()
    inverse_norms = torch.where(norms > 0, 1 / norms, torch.zeros_like(norms))
    products = (jacobian @ direction.to(jacobian)).double().cpu() * inverse_norms
    cosines = gramian * torch.outer(inverse_norms, inverse_norms)
    solution = torch.linalg.lstsq(cosines, products.unsqueeze(1), driver="gelsd").solution.squeeze(1)
    return solution * inverse_norms

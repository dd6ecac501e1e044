"""Whether the device's numbers are the CPU's, as far as rounding allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from bench.hardware_check.attempts import Name
from bench.hardware_check.steps import Steps, distances
from bench.records.hardware import Check

# The relative distance that is always allowed.
TOLERANCE = 1e-4
# Some steps amplify rounding: a ReLU whose input is nearly 0, solvers near a kink, signs of tiny gradients. How much
# shows the CPU, from perturbed parameters. The device may be this many times as far away as the farthest perturbation.
ROUNDING_FACTOR = 10.0
# A perturbation takes an input across a kink or not, so several are tried until one explains the distance.
MOST_DRAWS = 10
# Where perturbed steps are farther than this, a comparison says nothing.
MOST_ROUNDING = 1e-2


def parity(name: Name, found: Steps, reference: Steps, perturbed: Callable[[int], Steps]) -> Check:
    """Compares steps on the device with a reference.

    The losses of the first step have to be within TOLERANCE. So have the others, or within what rounding does to them.

    perturbed: the reference from perturbed parameters, by draw; needed only beyond TOLERANCE.
    """
    apart = asdict(distances(found, reference))
    beyond = [key for key, distance in apart.items() if not distance <= TOLERANCE]
    if not beyond:
        return name.passed(**apart)
    if not found.finite or "first_losses" in beyond:
        return name.failed(_farther(apart, beyond, {}), **apart)
    rounding = dict.fromkeys(beyond, 0.0)
    for draw in range(MOST_DRAWS):
        moved = asdict(distances(perturbed(draw), reference))
        rounding = {key: max(value, moved[key]) for key, value in rounding.items()}
        failed = [key for key in beyond if apart[key] > ROUNDING_FACTOR * rounding[key]]
        if not failed:
            break
    measured = apart | {f"rounding_{key}": value for key, value in rounding.items()}
    if unknown := {key: value for key, value in rounding.items() if not value <= MOST_ROUNDING}:
        failed = [key for key in failed if key not in unknown]
    if failed:
        return name.failed(_farther(apart, failed, rounding), **measured)
    if unknown:
        words = ", ".join(f"{_words(key)} {value:.1e}" for key, value in unknown.items())
        return name.noted(f"rounding alone moves this method too far to compare: {words}", **measured)
    return name.passed(**measured)


def _farther(apart: dict[str, float], beyond: list[str], rounding: dict[str, float]) -> str:
    allowed = {key: max(TOLERANCE, ROUNDING_FACTOR * rounding.get(key, 0.0)) for key in beyond}
    parts = (f"{_words(key)}: expected at most {allowed[key]:.1e}, found {apart[key]:.1e}" for key in beyond)
    return "; ".join(parts)


def _words(key: str) -> str:
    return key.replace("_", " ")


def distance_only(name: Name, found: Steps, reference: Steps, remark: str) -> Check:
    """Notes how far steps with other arithmetic are from a reference; fails if they are not finite."""
    apart = asdict(distances(found, reference))
    if not found.finite:
        return name.failed("expected finite losses, gradients and parameters, found others", **apart)
    return name.noted(remark, **apart) if remark else name.passed(**apart)

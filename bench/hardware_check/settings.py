"""Part "settings": single precision beside double; memory layout, TF32 and CUDA graphs beside the same steps without
them; and whether steps repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.engine.precision import choose_kernels
from bench.hardware_check.attempts import Name, attempt
from bench.hardware_check.deadline import Deadline
from bench.hardware_check.problems import Problem, spec_of
from bench.hardware_check.steps import Steps, distances, take_steps
from bench.hardware_check.verdict import distance_only, parity
from bench.records.hardware import Check
from bench.spec.settings import ComputeSettings

# One weighting that needs losses, one that needs the Gramian, one that needs the Jacobian; and NORMAL. Not GradDrop: it
# draws a number for each entry of a gradient, and the memory layout changes their order.
METHODS = (("ew", "hps"), ("cagrad", "hps"), ("moco", "hps"), ("ew", "normal"))
LOSSES_ONLY = (("ew", "hps"), ("uw", "hps"), ("famo", "hps"))
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "channels-last": {"compute.channels_last": True},
    "TF32": {"compute.tf32": True},
    "CUDA graphs": {"compute.cuda_graphs": True},
    "bf16": {"compute.precision": "bf16"},
}
_ONLY_ON_CUDA = ("TF32", "CUDA graphs")
# The relative distance of sums of some hundred products from double precision: about 3e-7 in fp32, 3e-4 in TF32.
_SINGLE_PRECISION = 1e-5


def needs_cuda(setting: str, device: torch.device) -> str:
    """Why a setting has no effect on this device; "" if it has."""
    return f"it needs CUDA, this device is {device.type}" if setting in _ONLY_ON_CUDA and device.type != "cuda" else ""


def check_products(device: torch.device, deadline: Deadline) -> Iterator[Check]:
    """Whether matrix products and convolutions are in single precision, or silently in less, when TF32 is off."""
    name = Name("single precision", "random numbers", "products")

    def check() -> list[Check]:
        choose_kernels(ComputeSettings())
        apart = {"products": _rounding(torch.matmul, (256, 512), (512, 256), device)}
        for layout, memory in (("convolutions", torch.contiguous_format), ("channels_last", torch.channels_last)):
            convolve = partial(torch.nn.functional.conv2d, padding=1)
            apart[layout] = _rounding(convolve, (4, 32, 48, 64), (64, 32, 3, 3), device, memory)
        coarse = [f"{key}: {value:.1e}" for key, value in apart.items() if not value <= _SINGLE_PRECISION]
        if coarse:
            return [
                name.failed(
                    f"expected at most {_SINGLE_PRECISION:.0e} from double precision, found {', '.join(coarse)}",
                    **apart,
                )
            ]
        return [name.passed(**apart)]

    yield from attempt([name], deadline, check)


def _rounding(
    operation: Callable[[Tensor, Tensor], Tensor],
    left: tuple[int, ...],
    right: tuple[int, ...],
    device: torch.device,
    memory: torch.memory_format = torch.contiguous_format,
) -> float:
    """How far an operation on random numbers is from the CPU's in double precision, relative to its norm."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=generator) for shape in (left, right))
    exact = operation(a.double(), b.double())
    found = operation(*(x.to(device, memory_format=memory) for x in (a, b))).cpu().double()
    return float((found - exact).norm() / exact.norm())


def check_settings(problem: Problem, deadline: Deadline) -> Iterator[Check]:
    """A check for each setting and method, and one of whether steps repeat."""
    for weighting, architecture in METHODS:
        for setting in ("channels-last", "TF32"):
            yield from _beside_plain(problem, setting, weighting, architecture, deadline)
        yield from _repeated(problem, weighting, architecture, deadline)
    for weighting, architecture in LOSSES_ONLY:
        yield from _beside_plain(problem, "CUDA graphs", weighting, architecture, deadline)


def _beside_plain(
    problem: Problem, setting: str, weighting: str, architecture: str, deadline: Deadline
) -> Iterator[Check]:
    """Steps with a setting beside those without, both on the device. Only TF32 may change more than rounding."""
    name = Name(setting, f"{problem.data}, {architecture}", weighting)
    if reason := needs_cuda(setting, problem.device):
        yield name.not_run(reason)
        return

    def check() -> list[Check]:
        plain = spec_of(problem.data, weighting, architecture)
        chosen = spec_of(problem.data, weighting, architecture, **SETTINGS[setting])
        reference = take_steps(plain, problem, problem.device)
        found = take_steps(chosen, problem, problem.device)

        def perturbed(draw: int) -> Steps:
            return take_steps(plain, problem, problem.device, draw=draw)

        if setting == "TF32":
            return [distance_only(name, found, reference, "its distance from single precision")]
        return [parity(name, found, reference, perturbed)]

    yield from attempt([name], deadline, check)


def _repeated(problem: Problem, weighting: str, architecture: str, deadline: Deadline) -> Iterator[Check]:
    """The same steps twice. Kernels that add in any order are allowed, so that a difference is no failure."""
    name = Name("repeats", f"{problem.data}, {architecture}", weighting)

    def check() -> list[Check]:
        spec = spec_of(problem.data, weighting, architecture)
        first, second = (take_steps(spec, problem, problem.device) for _ in range(2))
        if first.equals(second):
            return [name.passed()]
        return [name.noted("the same steps differ from time to time", **asdict(distances(second, first)))]

    yield from attempt([name], deadline, check)

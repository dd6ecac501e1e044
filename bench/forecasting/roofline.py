"""How long counted kernels take: the roofline model, kernel by kernel.

A kernel takes the longer of two times, that of its products and that of its bytes, and its launch on top. Real kernels
reach a part of the peak rates, and that part has to be assumed or fitted.
Source: Williams, Waterman, Patterson: Roofline, an insightful visual performance model (CACM 2009).
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.forecasting.counting import Counts, Kernel
from bench.forecasting.peak_rates import Hardware


@dataclass(frozen=True)
class Efficiency:
    """What is assumed of an accelerator.

    cores, tensor_cores, bandwidth: the shares of the peak rates that kernels reach: of products in single precision,
        of products in TF32 or bf16, and of memory.
    launch: seconds between one kernel and the next.
    """

    cores: float
    tensor_cores: float
    bandwidth: float
    launch: float


@dataclass(frozen=True)
class Rates:
    """What kernels reach.

    fp32, bf16: operations of products per second, by the type of the operands.
    bandwidth: bytes per second.
    launch: seconds between one kernel and the next.
    """

    fp32: float
    bf16: float
    bandwidth: float
    launch: float

    def seconds(self, kernel: Kernel) -> float:
        """Of one launch of a kernel."""
        products = kernel.flops / (self.bf16 if kernel.bf16 else self.fp32)
        return max(products, kernel.bytes / self.bandwidth) + self.launch

    def total(self, counts: Counts) -> float:
        """Seconds of all kernels, one after another."""
        return sum(times * self.seconds(kernel) for kernel, times in counts.kernels.items())


def reached(hardware: Hardware, efficiency: Efficiency, *, tf32: bool) -> Rates:
    """The rates of an accelerator; tf32: whether products in single precision may use TF32."""
    peak = hardware.operations
    return Rates(
        fp32=efficiency.tensor_cores * peak["tf32"] if tf32 else efficiency.cores * peak["fp32"],
        bf16=efficiency.tensor_cores * peak["bf16"],
        bandwidth=efficiency.bandwidth * hardware.bandwidth,
        launch=efficiency.launch,
    )

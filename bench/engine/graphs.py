"""CUDA graphs: the forward and the backward pass of all losses, each launched at once instead of kernel by kernel.

`./run_all.sh gpu-check` compares it with steps without graphs; on an H200 they were the same (docs/gpu.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bench.engine.heads import forward_heads, forward_shared
from bench.spec.settings import Precision
from datasets.contract import Batch, Group, Task
from methods.contract import Network


class TaskLosses(nn.Module):
    """The losses (m,) of a batch that is given as a flat list of tensors, the only form that CUDA graphs take.

    like: a batch with the same groups and tasks.
    """

    def __init__(self, network: Network, tasks: Sequence[Task], precision: Precision, like: Batch) -> None:
        super().__init__()
        self.network: Any = network
        self.tasks = tasks
        self.precision: Precision = precision
        self.readers = [list(group.targets) for group in like]

    def forward(self, *tensors: Tensor) -> Tensor:
        remaining = iter(tensors)
        batch = [Group(next(remaining), {task: next(remaining) for task in readers}) for readers in self.readers]
        heads = forward_shared(self.network, batch, self.precision).heads
        by_task = forward_heads(self.network, self.tasks, heads, self.precision)
        return torch.stack([by_task[task] for task in range(len(self.tasks))])


def flat(batch: Batch) -> tuple[Tensor, ...]:
    """The tensors of a batch, in the order in which `TaskLosses` takes them."""
    return tuple(values for group in batch for values in (group.inputs, *group.targets.values()))


class GraphedLosses:
    """The losses (m,) of batches. The graphs are captured at the first one, and again when the shapes change.

    capture: makes a module's forward and backward pass run as graphs, for sample arguments.
    """

    def __init__(
        self,
        network: Network,
        tasks: Sequence[Task],
        precision: Precision,
        capture: Callable[..., Any] = torch.cuda.make_graphed_callables,
    ) -> None:
        self.network = network
        self.tasks = tasks
        self.precision: Precision = precision
        self.capture = capture
        self._graphed: Any = None
        self._forms: list[tuple[torch.Size, torch.dtype]] = []

    def __call__(self, batch: Batch) -> Tensor:
        """The losses on the autograd graph. The next call overwrites them."""
        tensors = flat(batch)
        forms = [(values.shape, values.dtype) for values in tensors]
        if forms != self._forms:
            self._graphed = None  # frees the memory of the former graphs
            self._graphed, self._forms = self._captured(batch), forms
        losses: Tensor = self._graphed(*tensors)
        return losses

    def _captured(self, batch: Batch) -> Any:
        """Captures both passes.

        Capturing runs the network several times, which must not move its running means. It must not draw from the
        random stream of the steps either: a resumed run captures in another epoch.
        """
        module = TaskLosses(self.network, self.tasks, self.precision, batch)
        before = [(buffer, buffer.clone()) for buffer in module.buffers()]
        device = batch[0].inputs.device
        with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
            graphed = self.capture(module, tuple(values.clone() for values in flat(batch)), allow_unused_input=True)
        with torch.no_grad():
            for buffer, values in before:
                buffer.copy_(values)
        return graphed

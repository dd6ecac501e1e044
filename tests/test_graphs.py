"""CUDA graphs: steps with them equal steps without. In place of CUDA, a capture on the CPU with the same rules:
inputs, outputs and gradients have fixed memory that every replay overwrites, and capturing runs the module several
times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plain_gradients import prepared
from torch import Tensor, nn

from bench.engine.graphs import GraphedLosses
from bench.engine.hardware import hardware_errors, hardware_remarks
from bench.engine.step import train_step
from bench.engine.train_state import TrainState
from bench.spec.resolve import resolve
from bench.spec.settings import SpecError
from datasets.contract import Group

WARM_UPS = 3


def capture_on_cpu(module: nn.Module, sample: tuple[Tensor, ...], allow_unused_input: bool) -> Any:
    """Replays a module's passes in fixed memory, as torch.cuda.make_graphed_callables does with kernels."""
    parameters = list(module.parameters())
    held: list[Tensor | None] = [None] * len(parameters)
    output: Tensor | None = None
    for _ in range(WARM_UPS):
        output = module(*sample)
        torch.autograd.grad(output, parameters, torch.ones_like(output), allow_unused=allow_unused_input)
    assert output is not None
    fixed = output.detach().clone()

    class Replayed(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> Tensor:
            for place, values in zip(sample, inputs, strict=False):
                assert place.shape == values.shape and place.dtype == values.dtype
                place.copy_(values)
            with torch.enable_grad():
                ctx.output = module(*sample)
            fixed.copy_(ctx.output.detach())
            return fixed.detach()

        @staticmethod
        def backward(ctx: Any, *slopes: Tensor) -> Any:
            found = torch.autograd.grad(ctx.output, parameters, slopes[0], allow_unused=allow_unused_input)
            for index, gradient in enumerate(found):
                if held[index] is None or gradient is None:
                    held[index] = gradient
                else:
                    held[index].copy_(gradient)  # type: ignore[union-attr]
            return (*(None for _ in sample), *held)

    return lambda *tensors: Replayed.apply(*tensors, *parameters)


def graphed(state: TrainState) -> TrainState:
    state.graphed = GraphedLosses(state.network, state.tasks, state.precision, capture_on_cpu)
    return state


@pytest.mark.parametrize("data", ["digits", "rooms"])
@pytest.mark.parametrize("weighting", ["ew", "uw", "famo"])
def test_steps_with_graphs_equal_steps_without(weighting: str, data: str, data_root: Path) -> None:
    plain, batch = prepared(data, data_root, weighting, double=False)
    replayed = graphed(prepared(data, data_root, weighting, double=False)[0])
    for step in range(3):
        torch.manual_seed(step)
        ordinary, ours = train_step(plain, batch, step, 0), train_step(replayed, batch, step, 0)
        assert torch.equal(ordinary.losses, ours.losses) and torch.equal(ordinary.weights, ours.weights)
    here, there = plain.network.state_dict(), replayed.network.state_dict()
    assert all(torch.equal(values, there[name]) for name, values in here.items())


def test_capturing_leaves_the_random_stream_alone(data_root: Path) -> None:
    state, batch = prepared("digits", data_root, "ew", double=False)

    def drawing(*args: Any, **options: Any) -> Any:
        torch.rand(3)
        return capture_on_cpu(*args, **options)

    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    GraphedLosses(state.network, state.tasks, state.precision, drawing)(batch)
    assert torch.equal(torch.rand(2), expected)


def test_capturing_leaves_running_means_alone(data_root: Path) -> None:
    """Capturing runs the network several times; BatchNorm would count these as steps."""
    settings = {"backbone.name": "resnet18", "backbone.weights": "none", "train.batch_size": 4}
    plain, batch = prepared("faces", data_root, "ew", double=False, **settings)
    replayed = graphed(prepared("faces", data_root, "ew", double=False, **settings)[0])
    train_step(plain, batch, 0, 0)
    train_step(replayed, batch, 0, 0)
    here, there = dict(plain.network.named_buffers()), dict(replayed.network.named_buffers())  # type: ignore[attr-defined]
    assert here and all(torch.equal(values, there[name]) for name, values in here.items())


def test_batches_of_another_size_are_captured_again(data_root: Path) -> None:
    """As in a forecast, which times steps at growing batch sizes."""
    plain, batch = prepared("digits", data_root, "ew", double=False)
    replayed = graphed(prepared("digits", data_root, "ew", double=False)[0])
    for size in (1, 4, 2):
        part = [Group(g.inputs[:size], {task: y[:size] for task, y in g.targets.items()}) for g in batch]
        assert torch.equal(train_step(plain, part, 0, 0).losses, train_step(replayed, part, 0, 0).losses)


@pytest.mark.parametrize(
    ("method", "settings", "reason"),
    [
        ("cagrad", {}, "with cagrad, which needs more than losses"),
        ("normal", {}, "positions"),
        ("ew", {"heads.rule": "plain"}, r"heads.rule=plain"),
        ("ew", {"train.accumulate": 2}, "train.accumulate"),
        ("ew", {"train.cosines_every": 5}, "train.cosines_every"),
        ("ew", {"compute.compile": True}, "compute.compile"),
    ],
)
def test_what_graphs_cannot_hold_is_refused(method: str, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(SpecError, match=f"compute.cuda_graphs: expected false .*{reason}.*, found true"):
        resolve("digits", method, assignments={"compute.cuda_graphs": True, **settings})


def test_settings_say_what_they_do_on_this_device() -> None:
    plain = resolve("digits", "ew")
    chosen = resolve("digits", "ew", assignments={"compute.cuda_graphs": True, "compute.precision": "bf16"})
    cpu, cuda, other = torch.device("cpu"), torch.device("cuda"), torch.device("mps")
    assert hardware_remarks([plain], cpu) == hardware_remarks([plain], cuda) == []
    assert hardware_remarks([plain, chosen], cpu) == ["compute.cuda_graphs: no effect on a CPU."]
    assert hardware_remarks([chosen], cuda) == []
    compiled = resolve("digits", "ew", assignments={"compute.compile": True, "compute.tf32": True})
    (remark,) = hardware_remarks([compiled], cuda)
    assert remark.startswith("compute.compile: tested without a real accelerator only")
    assert hardware_errors([chosen], cuda) == hardware_errors([chosen], cpu) == []
    assert hardware_errors([chosen], other) == [
        "compute.cuda_graphs: expected false on mps, found true; it needs CUDA."
    ]
    without = resolve("digits", "ew", assignments={"compute.tf32": True, "compute.precision": "bf16"})
    useless, untested = hardware_remarks([without], other)
    assert useless == "compute.tf32: no effect on mps."
    assert untested.startswith("compute.precision: tested without a real accelerator only")

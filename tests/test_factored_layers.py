"""Factored gradients of layers: for which layers, that they are exact, and when they are used."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.engine.factored_layers import factorable_layers, factored_gradients, recorded_uses, worth_factoring
from bench.engine.heads import HeadGradient
from bench.engine.task_gradients import GradientBuffer, unfilled, write_rows
from methods.rows import gramian_of

TASKS = 6


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Encoder(nn.Module):
    """Whatever a test wants between images and features."""

    def __init__(self, forward: Callable[[Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self._forward = forward

    def forward(self, inputs: Tensor) -> Tensor:
        return self._forward(inputs)


def random_gradients(z: Tensor) -> list[HeadGradient]:
    gradients = torch.randn(TASKS, *z.shape, dtype=z.dtype)
    return [HeadGradient(task, torch.zeros(()), z, gradient, None) for task, gradient in enumerate(gradients)]


def plain_rows(parameters: list[nn.Parameter], heads: list[HeadGradient]) -> Tensor:
    rows = [
        torch.autograd.grad(b.z, parameters, b.gradient, retain_graph=True, allow_unused=True, materialize_grads=True)
        for b in heads
    ]
    return torch.stack([torch.cat([piece.reshape(-1) for piece in row]) for row in rows])


def assert_exact(encoder: nn.Module, inputs: Tensor, factored: int) -> None:
    """Gramian and weighted sum equal those of plain rows, with `factored` layers factored whatever their size."""
    encoder.double()
    parameters = list(encoder.parameters())
    with recorded_uses(factorable_layers(encoder, parameters)) as uses:  # type: ignore[arg-type]
        z = encoder(inputs.double())
    heads = random_gradients(z)
    rows = plain_rows(parameters, heads)
    seen = {layer: found for layer, found in uses.by_layer.items() if layer not in uses.outside}
    assert len(seen) == factored
    gradients = unfilled(parameters, seen, GradientBuffer(TASKS))
    write_rows(gradients, heads)
    torch.testing.assert_close(gradients.gramian(), rows @ rows.T, rtol=1e-10, atol=1e-10)
    weights = torch.rand(TASKS, dtype=torch.float64)
    gradients.apply_weights(weights)
    found = torch.cat([p.grad.reshape(-1) for p in parameters if p.grad is not None])
    torch.testing.assert_close(found, weights @ rows, rtol=1e-10, atol=1e-10)
    assert all(p.grad is not None and p.grad.stride() == p.stride() for p in parameters)


IMAGES = torch.randn(3, 4, 9, 7)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 1},
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 1)},
        {"kernel_size": 3, "dilation": 2, "padding": 2, "bias": False},
        {"kernel_size": 1, "stride": 2},
    ],
)
def test_convolutions(options: dict[str, object]) -> None:
    layer = nn.Conv2d(4, 5, **options)  # type: ignore[arg-type]
    assert_exact(Encoder(lambda x: layer(x).tanh(), layer=layer), IMAGES, 1)


def test_linear_layers_on_vectors_and_sequences() -> None:
    for inputs in (torch.randn(3, 4), torch.randn(3, 5, 4)):
        layer = nn.Linear(4, 6)
        assert_exact(Encoder(lambda x, layer=layer: layer(x).tanh(), layer=layer), inputs, 1)


def test_a_layer_that_is_used_several_times() -> None:
    layer = nn.Conv2d(4, 4, 3, padding=1)
    assert_exact(Encoder(lambda x: layer(layer(layer(x).tanh())), layer=layer), IMAGES, 1)


def test_operations_in_place_after_a_layer() -> None:
    layers = nn.Sequential(nn.Conv2d(4, 5, 3), nn.ReLU(inplace=True), nn.Conv2d(5, 4, 1), nn.LeakyReLU(inplace=True))
    assert_exact(layers, IMAGES, 2)


def test_weights_in_channels_last_layout() -> None:
    layers = nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3))
    assert_exact(layers.to(memory_format=torch.channels_last), IMAGES, 2)


def test_a_task_that_does_not_use_a_layer() -> None:
    first, second = nn.Linear(4, 4).double(), nn.Linear(4, 4).double()
    parameters = [*first.parameters(), *second.parameters()]
    both = nn.ModuleList([first, second])
    with recorded_uses(factorable_layers(both, parameters)) as uses:  # type: ignore[arg-type]
        near = first(torch.randn(3, 4, dtype=torch.float64))
        far = second(near)
    heads = [HeadGradient(task, torch.zeros(()), z, torch.randn_like(z), None) for task, z in enumerate((near, far))]
    rows = plain_rows(parameters, heads)
    gradients = unfilled(parameters, uses.by_layer, GradientBuffer(2))
    write_rows(gradients, heads)
    torch.testing.assert_close(gradients.gramian(), rows @ rows.T)


def test_layers_that_are_never_factored() -> None:
    tied, grouped = nn.Linear(4, 4), nn.Conv2d(4, 4, 1, groups=2)
    other = nn.Linear(4, 4)
    other.weight = tied.weight

    class Scaled(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            return nn.functional.linear(inputs, 2 * self.weight, self.bias)

    reflecting = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    plain = nn.Linear(4, 4)
    every = nn.ModuleList([tied, other, grouped, Scaled(4, 4), reflecting, normed, plain])
    assert factorable_layers(every, list(every.parameters())) == [plain]  # type: ignore[arg-type]
    assert factorable_layers(every, []) == []  # type: ignore[arg-type]


def test_a_layer_inside_a_checkpoint_is_not_factored() -> None:
    hidden, open_ = nn.Linear(4, 4), nn.Linear(4, 4)
    encoder = Encoder(
        lambda x: open_(checkpoint(hidden, x, use_reentrant=True)),  # type: ignore[no-any-return]
        hidden=hidden,
        open=open_,
    )
    assert_exact(encoder, torch.randn(3, 4, requires_grad=True), 1)


def test_factors_are_used_where_they_save_multiplications() -> None:
    layer = nn.Linear(50, 40)
    for places, tasks, worth in ((4, 40, True), (4, 3, True), (100, 2, False), (2000, 40, False)):
        with recorded_uses([layer]) as uses:
            layer(torch.randn(places, 50))
        assert bool(worth_factoring(uses, tasks)) == worth, (places, tasks)


def test_uses_outside_the_context_are_not_recorded() -> None:
    layer = nn.Linear(4, 4)
    with recorded_uses([layer]) as uses:
        layer(torch.randn(2, 4))
    layer(torch.randn(2, 4))
    assert len(uses.by_layer[layer]) == 1
    (factors,) = factored_gradients(uses.by_layer, 2)
    assert len(factors.edges) == 1


@pytest.mark.parametrize("columns", [1, 4095, 4096, 4097, 20000])
def test_gramian_in_blocks(columns: int) -> None:
    rows = torch.randn(5, columns)
    torch.testing.assert_close(gramian_of(rows), rows.double() @ rows.double().T, rtol=1e-5, atol=1e-4)


def test_batched_equals_looped() -> None:
    layers = nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3)).double()
    parameters = list(layers.parameters())
    z = layers(IMAGES.double())
    heads = random_gradients(z)
    found = []
    for batched in (False, True):
        gradients = unfilled(parameters, {}, GradientBuffer(TASKS))
        write_rows(gradients, heads, retain_graph=True, batched=batched)
        found.append(gradients.jacobian)
    torch.testing.assert_close(*found)

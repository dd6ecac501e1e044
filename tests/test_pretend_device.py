"""The pretend accelerator: what it counts, what it refuses, and that its numbers are the CPU's."""

from __future__ import annotations

import copy
import gc
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from pretend.counts import Counts, Price, counting
from pretend.device import DEVICE, available
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from bench.engine.device import (
    chip_name,
    choose_device,
    free_memory,
    make_current,
    peak_memory_mib,
    reset_peak_memory,
)


@pytest.fixture
def pretend() -> Iterator[None]:
    with available():
        yield


def counts_of(call: Callable[[], object]) -> Counts:
    with counting() as counts:
        call()
    return counts()


def test_the_device_is_there_only_while_it_is_available() -> None:
    before = torch.Generator, torch.Event, torch.empty, torch.accelerator.synchronize
    for _ in range(2):
        assert not torch.accelerator.is_available() and choose_device("auto").type == "cpu"
        with pytest.raises(ValueError, match="Expected the device 'pretend', found none"):
            choose_device("pretend")
        with pytest.raises(RuntimeError):
            torch.empty(3, pin_memory=True)
        assert not torch.empty(3).is_pinned()
        with available():
            assert torch.accelerator.is_available() and choose_device("auto").type == "pretend"
            assert torch.accelerator.current_accelerator() == choose_device("pretend")
            assert chip_name(DEVICE) == "Pretend 1"
        assert before == (torch.Generator, torch.Event, torch.empty, torch.accelerator.synchronize)
    torch.ones(2, requires_grad=True).sum().backward()


def test_a_device_with_a_number_becomes_the_current_one(pretend: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events, and so the times of steps, are of the current device."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.accelerator, "set_device_index", chosen.append)
    for device in (torch.device("cpu"), torch.device("cuda"), torch.device("cuda", 1)):
        make_current(device)
    assert chosen == [1]
    assert choose_device("pretend:0").index == 0 and chosen == [1, 0]
    with pytest.raises(ValueError, match="Expected a number of pretend below 1, found 'pretend:7'"):
        choose_device("pretend:7")


def test_waits_are_counted_with_their_lines(pretend: None) -> None:
    x = torch.arange(4.0, device=DEVICE)
    with counting() as counts:
        x.sum().item()
        first = counts()
        if x.sum() > 2:
            x.nonzero()
        x[x > 1]
        torch.accelerator.synchronize()
    here = Path(__file__)
    lines = here.read_text().splitlines()
    places = [event.lines[0].rpartition(":") for event in counts().events]
    assert {name for name, _, _ in places} == {f"tests/{here.name}"}
    planted = [lines[int(number) - 1].strip() for _, _, number in places]
    assert planted == [
        "x.sum().item()",
        "if x.sum() > 2:",
        "x.nonzero()",
        "x[x > 1]",
        "torch.accelerator.synchronize()",
    ]
    assert first.waits == 1 and counts().waits == 5 and counts().copies_in == counts().copies_out == 0


def test_a_wait_in_a_backward_pass_has_the_line_of_the_backward_pass(pretend: None) -> None:
    x = torch.ones(3, device=DEVICE, requires_grad=True)
    y = x * 2
    y.register_hook(lambda gradient: gradient * float(gradient.sum()))
    with counting() as counts:
        y.sum().backward()
    (event,) = counts().events
    assert len(event.lines) == 2 and all("test_pretend_device.py" in line for line in event.lines)


@pytest.mark.parametrize(
    ("copies", "waits", "move"),
    [
        (1, 1, lambda x: x.to(DEVICE)),
        (1, 1, lambda x: x.to(DEVICE, non_blocking=True)),  # from memory that is not pinned
        (1, 1, lambda x: x.pin_memory().to(DEVICE)),
        (1, 0, lambda x: x.pin_memory().to(DEVICE, non_blocking=True)),
        (1, 1, lambda x: x.pin_memory().to(DEVICE, torch.float64, non_blocking=True)),  # through a buffer
        (1, 0, lambda x: torch.empty(3, device=DEVICE).copy_(x.pin_memory(), non_blocking=True)),
        (1, 1, lambda x: torch.tensor([1.0, 2.0], device=DEVICE)),
        (1, 1, lambda x: torch.as_tensor(x, device=DEVICE)),
        (0, 0, lambda x: torch.full((3,), 2.0, device=DEVICE)),
    ],
)
def test_copies_to_the_device(copies: int, waits: int, move: Callable[[Tensor], Tensor], pretend: None) -> None:
    counts = counts_of(lambda: move(torch.arange(3.0)))
    assert (counts.copies_in, counts.waits, counts.copies_out) == (copies, waits, 0)


def test_copies_from_the_device(pretend: None) -> None:
    x = torch.arange(3.0, device=DEVICE)
    for read in (x.cpu, x.tolist, lambda: torch.empty(3).copy_(x), lambda: x.to("cpu", torch.float64)):
        counts = counts_of(read)
        assert (counts.copies_in, counts.waits, counts.copies_out) == (0, 1, 1)
    asynchronous = counts_of(lambda: x.to("cpu", non_blocking=True))
    assert (asynchronous.waits, asynchronous.copies_out) == (0, 1)
    assert x.tolist() == [0.0, 1.0, 2.0]
    for refused in (x.numpy, lambda: np.asarray(x)):
        with pytest.raises(TypeError, match=r"can't convert pretend:0 .* to numpy\. Use Tensor\.cpu"):
            refused()


def test_the_calls_that_wait_are_those_of_cuda(pretend: None) -> None:
    """The list of PyTorch's own test of `torch.cuda.set_sync_debug_mode`, and calls that its documentation names.

    That mode doesn't see copies from memory that isn't pinned, so masks on the CPU, which are copied, are not compared.
    """
    x, y = torch.rand(4, device=DEVICE), torch.rand((), device=DEVICE)
    ind = torch.randint(4, (3,), device=DEVICE)
    ind_cpu, repeats = ind.cpu(), torch.full((1,), 2, device=DEVICE)
    mask = torch.randint(2, (4,), device=DEVICE, dtype=torch.bool)
    symmetric = torch.eye(3, device=DEVICE)

    def put(index: Tensor, value: object) -> None:
        x[index] = value  # type: ignore[call-overload]

    free: list[Callable[[], object]] = [
        lambda: put(mask, 1.0),
        lambda: put(ind, y),
        lambda: x[ind],
        lambda: functional.one_hot(ind, num_classes=4),
        lambda: torch.randperm(20000, device=DEVICE),
        lambda: torch.repeat_interleave(x, 2, output_size=8),
        lambda: torch.repeat_interleave(x, repeats, output_size=8),
        lambda: torch.any(y),
        lambda: x * torch.tensor(2.0),
        lambda: torch.linalg.cholesky_ex(symmetric),
        lambda: nn.utils.clip_grad_norm_([nn.Parameter(x)], 1.0),
        lambda: torch.multinomial(x, 3, replacement=True),
        lambda: torch.normal(x, 1.0),
        lambda: repr(x),
    ]
    waiting: list[Callable[[], object]] = [
        lambda: put(mask, y),
        lambda: put(ind_cpu, y),
        lambda: x[mask],
        lambda: x[ind_cpu],
        lambda: x.nonzero(),
        lambda: bool(y),
        lambda: functional.one_hot(ind),
        lambda: torch.repeat_interleave(x, repeats),
        lambda: torch.equal(x, x),
        lambda: x.masked_select(mask),
        lambda: torch.unique(x),
        lambda: torch.bincount(ind),
        lambda: torch.linalg.eigh(symmetric),
        lambda: torch.linalg.cholesky(symmetric),
        lambda: torch.linalg.solve(symmetric, symmetric),
        lambda: torch.allclose(x, x),
        lambda: torch.multinomial(x, 1),
        lambda: torch.normal(x, x),
        lambda: torch.linspace(y, y, 3, device=DEVICE),
        lambda: torch.linalg.pinv(symmetric),
        lambda: f"{y:.3f}",
        lambda: f"{x}",
        lambda: str(x),
    ]
    assert [counts_of(call).waits for call in free] == [0] * len(free)
    assert [counts_of(call).waits > 0 for call in waiting] == [True] * len(waiting)


@pytest.mark.parametrize(
    "mix",
    [
        lambda x, host: x + host,
        lambda x, host: torch.cat([x, host]),
        lambda x, host: x @ host,
        lambda x, host: functional.mse_loss(x, host),
        lambda x, host: torch.stack([x.sum(), host.sum()]),
        lambda x, host: host.index_select(0, x.long()),
        lambda x, host: torch.where(x > 0, x, host),
        lambda x, host: host.add_(x),
    ],
)
def test_devices_do_not_mix(mix: Callable[[Tensor, Tensor], Tensor], pretend: None) -> None:
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device, but found at least two"):
        mix(torch.zeros(3, device=DEVICE), torch.ones(3))


def test_a_gradient_of_another_device_is_refused(pretend: None) -> None:
    parameter = nn.Parameter(torch.ones(3, device=DEVICE))
    with pytest.raises(RuntimeError, match="device"):
        parameter.grad = torch.ones(3)


def network() -> nn.Module:
    torch.manual_seed(1)
    layers = (nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.3))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 5))


def three_steps(device: torch.device) -> tuple[list[Tensor], nn.Module, Adam]:
    """Losses of three steps with dropout and fused Adam."""
    model = network().to(device)
    optimizer = Adam(model.parameters(), fused=True)
    images, labels = torch.rand(6, 3, 8, 8).to(device), torch.arange(6).remainder(5).to(device)
    torch.manual_seed(2)
    losses = []
    for _ in range(3):
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses, model, optimizer


def test_a_training_step_equals_that_of_the_cpu_and_does_not_wait(pretend: None) -> None:
    expected, host, _ = three_steps(torch.device("cpu"))
    with counting() as counts:
        losses, model, optimizer = three_steps(DEVICE)
    assert counts().waits == counts().copies_in == len(list(model.parameters())) + 3 + 2  # buffers, and the batch
    assert all(parameter.device == DEVICE for parameter in model.parameters())
    assert all(s["step"].device == s["exp_avg"].device == DEVICE for s in optimizer.state.values())
    assert torch.equal(torch.stack(losses).cpu(), torch.stack(expected))
    for ours, theirs in zip(model.state_dict().values(), host.state_dict().values(), strict=True):
        assert torch.equal(ours.cpu(), theirs)


def test_modules_keep_parameters_and_are_saved_and_copied(pretend: None) -> None:
    model = network()
    weight = model[0].weight
    model.to(DEVICE)
    assert model[0].weight is weight and weight.device == DEVICE
    model.to(memory_format=torch.channels_last)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    for target in (None, "cpu"):
        file.seek(0)
        loaded = torch.load(file, map_location=target, weights_only=True)
        assert all(t.device == (DEVICE if target is None else torch.device("cpu")) for t in loaded.values())
        for name, tensor in loaded.items():
            assert torch.equal(tensor, model.state_dict()[name].to(tensor.device))
    other = copy.deepcopy(model)
    with torch.no_grad():
        weight.add_(1)
    assert not torch.equal(other[0].weight, weight)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other[0].weight, weight)
    weight.data = torch.zeros_like(weight)
    assert weight.sum().item() == 0


def test_random_numbers(pretend: None) -> None:
    """The device has streams of its own, whose numbers are those of the CPU with the same seed."""
    ours, theirs = torch.Generator(DEVICE).manual_seed(7), torch.Generator().manual_seed(7)
    assert ours.device == DEVICE and isinstance(ours, torch.Generator)
    for draw in (torch.rand, torch.randn):
        assert torch.equal(draw(5, generator=ours, device=DEVICE).cpu(), draw(5, generator=theirs))
    state = ours.get_state()
    first = torch.rand(5, device=DEVICE, generator=ours)
    ours.set_state(state)
    assert torch.equal(torch.rand(5, device=DEVICE, generator=ours), first)
    with pytest.raises(RuntimeError, match="Expected a 'pretend' device type for generator but found 'cpu'"):
        torch.rand(5, device=DEVICE, generator=theirs)
    torch.manual_seed(3)
    on_cpu = torch.rand(5)
    on_device = torch.rand(5, device=DEVICE)  # not shifted by what the CPU has drawn
    assert torch.equal(on_device.cpu(), on_cpu)
    module = torch.get_device_module("pretend")
    state = module.get_rng_state()
    kept = functional.dropout(torch.ones(50, device=DEVICE))
    after = torch.rand(1)
    module.set_rng_state(state)
    assert torch.equal(functional.dropout(torch.ones(50, device=DEVICE)), kept)
    assert not torch.equal(torch.rand(1), after)


def test_events_and_streams(pretend: None) -> None:
    begin, end = (torch.Event("pretend", enable_timing=True) for _ in range(2))
    x = torch.ones(3, device=DEVICE)
    with counting(Price(launch=1e-6, operation=3e-6, wait=0.0)) as counts:
        begin.record()
        for _ in range(10):
            x = x * 2
        end.record()
        assert counts().waits == 0 and not end.query()
        with pytest.raises(RuntimeError, match="completed"):
            begin.elapsed_time(end)
        end.synchronize()
        assert counts().waits == 1 and end.query()
    # The device is slower than the host, so that its ten operations follow each other without gaps.
    assert begin.elapsed_time(end) == pytest.approx(10 * 3e-3, abs=1.1e-3)
    stream = torch.Stream("pretend")
    with stream:
        stream.wait_stream(torch.accelerator.current_stream())
        stream.record_event().wait()
    assert counts_of(stream.synchronize).waits == 1


def test_a_price_makes_waits_visible(pretend: None) -> None:
    """The host launches while the device computes, unless it waits after each operation: a closed form."""
    price = Price(launch=1e-6, operation=10e-6, wait=20e-6)
    x = torch.ones((), device=DEVICE)
    with counting(price) as queued:
        for _ in range(5):
            x.neg()
    assert queued().seconds == pytest.approx(1e-6 + 5 * 10e-6)
    with counting(price) as waiting:
        for _ in range(5):
            torch.accelerator.synchronize() if x.neg() is not None else None
    assert waiting().seconds == pytest.approx(5 * (1e-6 + 10e-6 + 20e-6))
    assert queued().operations == waiting().operations == 5


def test_memory(pretend: None) -> None:
    gc.collect()
    free, allocated = free_memory(DEVICE), torch.accelerator.memory_allocated()
    reset_peak_memory(DEVICE)
    before = peak_memory_mib(DEVICE)
    x = torch.zeros(2**20, device=DEVICE)  # 4 MiB
    views = x[5:], x.view(4, -1), x.detach()
    y = x + 1
    assert torch.accelerator.memory_allocated() == allocated + 2 * 4 * 2**20
    assert free_memory(DEVICE) == free - 2 * 4 * 2**20
    del y
    assert torch.accelerator.memory_allocated() == allocated + 4 * 2**20
    del x
    assert torch.accelerator.memory_allocated() == allocated + 4 * 2**20
    del views
    assert torch.accelerator.memory_allocated() == allocated
    assert before is not None and peak_memory_mib(DEVICE) == pytest.approx(before + 8)
    reset_peak_memory(DEVICE)
    assert peak_memory_mib(DEVICE) == before


def test_pinned_memory(pretend: None) -> None:
    x = torch.arange(6)
    assert not x.is_pinned()
    pinned = x.pin_memory()
    assert pinned.is_pinned() and torch.equal(pinned, x) and pinned.pin_memory() is pinned
    assert pinned[2:].is_pinned() and not x.is_pinned() and not pinned.clone().is_pinned()
    assert torch.empty(3, pin_memory=True).is_pinned() and not torch.empty(3).is_pinned()
    assert torch.zeros(3, device=DEVICE).is_pinned() is False
    assert torch.ones(3, device=DEVICE).to("cpu", non_blocking=True).is_pinned()
    with pytest.raises(RuntimeError, match="Only dense CPU tensors can be pinned"):
        torch.empty(3, device=DEVICE, pin_memory=True)


def test_repeated_memory_cannot_be_pinned(pretend: None) -> None:
    with pytest.raises(RuntimeError, match="more than one element"):
        torch.ones(1).expand(3).pin_memory()


def test_bfloat16_reads_numbers_of_the_device_in_bfloat16(pretend: None) -> None:
    x, scale = torch.ones(3, dtype=torch.bfloat16, device=DEVICE) * 3, torch.tensor(1.003, dtype=torch.float64)
    assert (x * scale.to(DEVICE)).tolist() == [3.0] * 3  # 1.003 becomes 1
    assert (x * scale).tolist() == (x.cpu() * scale).tolist() == (x * 1.003).tolist() == [3.015625] * 3


def test_asynchronous_copies_arrive_at_the_next_wait(pretend: None) -> None:
    x = torch.arange(3.0, device=DEVICE)
    early, buffer = x.to("cpu", non_blocking=True), torch.zeros(3, pin_memory=True)
    buffer.copy_(x, non_blocking=True)
    x.add_(1)
    assert early.isnan().all() and buffer.isnan().all()
    torch.accelerator.synchronize()
    assert early.tolist() == buffer.tolist() == [0.0, 1.0, 2.0]


def test_pinned_memory_has_to_keep_its_values_until_they_are_copied(pretend: None) -> None:
    buffer = torch.ones(3, pin_memory=True)
    event = torch.Event("pretend")
    for value in range(3):
        buffer.numpy().fill(value)
        copied = buffer.to(DEVICE, non_blocking=True)
        event.record()
        event.synchronize()
        assert copied.tolist() == [value] * 3
    buffer.to(DEVICE, non_blocking=True)
    buffer.numpy().fill(5)
    with pytest.raises(RuntimeError, match=r"found it overwritten after the copy at tests/test_pretend_device.py:\d+;"):
        torch.accelerator.synchronize()


def test_autocast(pretend: None) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 3), torch.rand(2, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = layer(x)
    layer.to(DEVICE)
    with torch.autocast("pretend", dtype=torch.bfloat16):
        y = layer(x.to(DEVICE))
        assert y.dtype == torch.bfloat16 and torch.equal(y.cpu(), expected)
        loss = functional.cross_entropy(y, torch.tensor([0, 1]).to(DEVICE))
        assert loss.dtype == y.exp().dtype == torch.float32 and (y + 1).dtype == torch.bfloat16
        assert torch.cat([y, y.float()]).dtype == torch.float32
    loss.backward()
    assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32
    assert (layer(x.to(DEVICE))).dtype == torch.float32


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: torch.einsum("ij,kj->ik", x, x),
        lambda x: x.softmax(dim=-1).log(),
        lambda x: functional.conv2d(x[None, None], x[None, None, :3, :3], padding=1),
        lambda x: functional.interpolate(x[None, None], scale_factor=2.0, mode="bilinear"),
        lambda x: torch.linalg.eigvalsh(x @ x.T),
        lambda x: x.sort(dim=0).values[:, ::2].cumsum(dim=1),
        lambda x: torch.where(x > x.mean(), x, torch.zeros_like(x)),
        lambda x: x.clone().t_().mul_(2).clamp_(max=1),
        lambda x: torch.func.vmap(lambda row: row.outer(row))(x),
    ],
)
def test_operations_equal_those_of_the_cpu(compute: Callable[[Tensor], Tensor], pretend: None) -> None:
    x = torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    results = []
    for device in (torch.device("cpu"), DEVICE):
        leaf = x.to(device).requires_grad_()
        result = compute(leaf)
        (gradient,) = torch.autograd.grad(result.square().sum(), leaf)
        assert result.device == gradient.device == device
        results.append((result.detach().cpu(), gradient.cpu()))
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs) and ours.stride() == theirs.stride()

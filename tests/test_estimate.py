"""bench.plan --device H200: counted work equals closed forms, times follow from it, and assumptions are in sight."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import ResNet18_Weights, ResNet50_Weights

from bench import ROOT, plan
from bench.engine.build import build_network
from bench.engine.step import train_step
from bench.engine.train_state import make_train_state
from bench.forecasting.calibration import PROBLEMS, check, fitted
from bench.forecasting.counting import ELSEWHERE, OPTIMIZER, Counts, Kernel, count_evaluation, count_step
from bench.forecasting.estimate import ASSUMED, FASTEST, SLOWEST, evaluations
from bench.forecasting.forecast import Run
from bench.forecasting.measured_elsewhere import beside_page, estimates_of
from bench.forecasting.peak_rates import HARDWARE, Hardware, hardware_named
from bench.forecasting.roofline import Efficiency, Rates, reached
from bench.forecasting.sizes import dataset_size
from bench.profiling.workloads import Workload
from bench.records.hardware import HardwareRecord, Speed, read_hardware
from bench.spec.lookup import UnknownName
from bench.spec.resolve import RunSpec, resolve
from methods import WEIGHTINGS
from methods.contract import batches_of

CPU = torch.device("cpu")
SMALL = (16, 16)
# Multiplications per image of digits' layers: 3×3 convolutions with strides 2 and 2, and a head.
DIGITS = {
    "encoder.0.0": 8 * 8 * 16 * (9 * 3),
    "encoder.1.0": 4 * 4 * 32 * (9 * 16),
    "heads.*": 32 * 10,
}

Ask = Callable[..., int]


def spec_of(data: str, method: str, batch: int = 2, settings: Mapping[str, Any] | None = None) -> RunSpec:
    always = {"train.batch_size": batch, "backbone.weights": "none"}
    return resolve(data, method, seed=0, assignments={**always, **(settings or {})})


def by_layer(counts: Counts) -> dict[str, float]:
    """Multiplications and additions of each layer."""
    flops: dict[str, float] = {}
    for kernel, times in counts.kernels.items():
        flops[kernel.layer] = flops.get(kernel.layer, 0) + times * kernel.flops
    return flops


def launches(counts: Counts, operation: str) -> float:
    """Of the second layer of faces' encoder."""
    return sum(
        times for k, times in counts.kernels.items() if k.operation == operation and k.layer.startswith("encoder.1.0")
    )


def test_a_step_has_the_multiplications_of_its_layers() -> None:
    """Forward, and twice that backward, except that no gradient of the images is computed."""
    found = by_layer(count_step(spec_of("digits", "ew", batch=8), SMALL))
    for layer, multiplications in DIGITS.items():
        passes = 2 if layer == "encoder.0.0" else 3
        assert found[layer] == 2 * passes * multiplications * 8 * 4, layer  # four tasks with 8 images each
    assert set(found) >= {OPTIMIZER, ELSEWHERE}


@pytest.mark.parametrize(("data", "weights"), [("officehome", ResNet18_Weights), ("nyuv2", ResNet50_Weights)])
def test_a_residual_network_has_its_published_multiplications(data: str, weights: Any) -> None:
    name = {"officehome": "resnet18", "nyuv2": "resnet50"}[data]
    spec = spec_of("officehome", "ew", settings={"backbone.name": name})
    flops = sum(n for layer, n in by_layer(count_evaluation(spec, (224, 224))).items() if layer.startswith("encoder"))
    published = weights.IMAGENET1K_V1.meta["_ops"]  # billions of multiplications, with a classifier of 1,000 classes
    assert flops / 128 / 2e9 == pytest.approx(published, rel=2e-3)


@pytest.mark.parametrize(
    ("data", "method"),
    [("digits", "mgda"), ("faces", "mgda"), ("rooms", "cagrad"), ("rooms", "normal"), ("digits", "modo")],
)
def test_multiplications_are_those_that_torch_counts_in_a_real_step(data: str, method: str) -> None:
    spec = spec_of(data, method)
    state = make_train_state(spec, build_network(spec, CPU))
    batch = Workload("", "", data, 2, SMALL, len(spec.info.tasks)).noise(CPU)
    with FlopCounterMode(display=False) as counter:
        train_step(state, batch, 0, 0, others=[batch] * (batches_of(state.weighting) - 1))
    assert count_step(spec, SMALL).flops == pytest.approx(counter.get_total_flops(), rel=1e-3)


@pytest.mark.parametrize(
    ("method", "settings", "forward", "backward"),
    [
        ("ew", {}, 1, 1),
        ("graddrop", {}, 1, 40),
        ("modo", {}, 2, 80),  # two batches
        ("mgda", {"weighting.grad_space": "representation"}, 1, 1),
        ("mgda", {"weighting.every": 4}, 1, (40 + 3) / 4),
        ("ew", {"train.cosines_every": 2}, 1, (41 + 1) / 2),
    ],
)
def test_forward_and_backward_passes(method: str, settings: Mapping[str, Any], forward: float, backward: float) -> None:
    counts = count_step(spec_of("faces", method, settings=settings), SMALL)
    assert launches(counts, "convolution") == forward
    assert launches(counts, "convolution_backward") == pytest.approx(backward)


@pytest.mark.slow
def test_a_jacobian_moves_bytes() -> None:
    """Every row is written once and read by the weighting."""
    one, per_task = (count_step(spec_of("faces", method), SMALL) for method in ("ew", "graddrop"))
    state = make_train_state(spec_of("faces", "ew"), build_network(spec_of("faces", "ew"), CPU))
    jacobian = 4 * 40 * sum(parameter.numel() for parameter in state.shared_parameters)
    assert per_task.bytes - one.bytes > 2 * jacobian and per_task.peak_bytes - one.peak_bytes > jacobian


@pytest.mark.slow
def test_memory_is_that_of_the_parameters_and_grows_with_the_batch() -> None:
    sizes = (2, 64, 128, 192)
    peaks = [count_step(spec_of("faces", "ew", batch), SMALL).peak_bytes for batch in sizes]
    network = build_network(spec_of("faces", "ew"), CPU)
    parameters = 4 * sum(p.numel() for p in [*network.shared_parameters(), *network.heads.parameters()])
    assert 4 * parameters < peaks[0] < 6 * parameters  # with gradients and the two moments of Adam
    assert peaks[3] - peaks[2] == pytest.approx(peaks[2] - peaks[1], rel=0.1)


@pytest.mark.slow
def test_bf16_saves_memory_and_no_multiplications() -> None:
    single, half = resnet50("fp32"), resnet50("bf16")
    assert half.flops == single.flops
    products = [kernel for kernel in half.kernels if kernel.flops and kernel.layer != ELSEWHERE]
    assert products and all(kernel.bf16 for kernel in products)
    assert 0.45 * single.peak_bytes < half.peak_bytes < 0.6 * single.peak_bytes
    assert 0.45 * single.bytes < half.bytes < 0.6 * single.bytes


def kernel(flops: int, size: int, bf16: bool = False) -> Kernel:
    return Kernel("layer", "mm", bf16, flops, size)


def test_the_roofline_by_hand() -> None:
    rates = Rates(fp32=100.0, bf16=400.0, bandwidth=10.0, launch=0.5)
    assert rates.seconds(kernel(1000, 20)) == 10 + 0.5  # products take longer
    assert rates.seconds(kernel(1000, 20, bf16=True)) == 2.5 + 0.5
    assert rates.seconds(kernel(1000, 200)) == 20 + 0.5  # bytes take longer
    assert rates.total(Counts({kernel(1000, 20): 2.0, kernel(0, 0): 0.5}, 0)) == 2 * 10.5 + 0.25


def test_peak_rates_by_precision() -> None:
    half = Efficiency(cores=0.5, tensor_cores=0.25, bandwidth=0.5, launch=1.0)
    a100 = HARDWARE["A100"]
    assert reached(a100, half, tf32=False) == Rates(9.75e12, 78e12, 1019.5e9, 1.0)
    assert reached(a100, half, tf32=True).fp32 == 39e12
    for name, hardware in HARDWARE.items():
        rates = hardware.operations
        assert rates["fp32"] <= rates["tf32"] < rates["bf16"] and hardware.source, name


def test_names_of_hardware() -> None:
    for name in ("h200", "H100", "a100", "A100-40gb", "rtx3090", "RTX 3090"):
        assert hardware_named(name) is not None, name
    assert [hardware_named(name) for name in ("auto", "cpu", "cuda", "cuda:1", "CPU")] == [None] * 5
    with pytest.raises(UnknownName, match=r"Unknown device 'H300'.*auto, cpu, cuda, H200, H100, A100"):
        hardware_named("H300")


@cache
def resnet50(precision: str) -> Counts:
    """A step on 256 images of 224×224."""
    settings = {"backbone.name": "resnet50", "compute.precision": precision}
    return count_step(spec_of("celeba", "ew", 256, settings), (224, 224))


V100 = Hardware("V100", {"fp32": 15.7e12, "tf32": 15.7e12, "bf16": 125e12}, 900e9, 16 * 2**30, "Volta white paper")


@pytest.mark.parametrize(
    ("hardware", "precision", "tf32", "published"),
    [
        (HARDWARE["A100"], "fp32", True, 938),
        (HARDWARE["A100"], "bf16", True, 2470),
        (V100, "fp32", False, 367),
        (V100, "bf16", False, 1200),
    ],
)
def test_published_speeds_of_resnet50_are_in_the_range(
    hardware: Hardware, precision: str, tf32: bool, published: float
) -> None:
    """Images per second in training, one GPU. Source: NVIDIA DeepLearningExamples, ResNet50 v1.5 for PyTorch, 21.03.

    Ours has forty heads on one input, and Adam; theirs has 1,000 classes, and SGD.
    """
    counts = resnet50(precision)
    slowest, assumed, fastest = (
        256 / reached(hardware, efficiency, tf32=tf32).total(counts) for efficiency in (SLOWEST, ASSUMED, FASTEST)
    )
    assert slowest < published < fastest and published / 1.6 < assumed < 1.6 * published


def test_evaluation_batches_of_a_run() -> None:
    run = Run(spec_of("nyuv2", "ew"), dataset_size("nyuv2", spec_of("nyuv2", "ew").settings.data), done=False)
    epochs = run.spec.settings.train.epochs
    assert evaluations(run) == epochs * 2 + 2 * 6  # 159 and 654 images in batches of 128


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """bench.plan on a machine without data or records."""

    def call(*arguments: str) -> int:
        return plan.main([*arguments, "--results", str(tmp_path / "results"), "--data-root", str(tmp_path / "data")])

    return call


def test_an_estimate_for_a_person(ask: Ask, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    request = ["--method", "ew", "uw", "mgda", "--data", "digits", "--seeds", "0", "--device", "h200", "--layers"]
    assert ask(*request, "--set", "train.batch_size=8", "--epochs", "3") == 0
    out = capsys.readouterr().out
    assert "On one NVIDIA H200 SXM, which is not here: estimated, nothing was timed" in out
    assert "EW, UW" in out and "3 runs to do (0 done), 2,412 steps, about" in out  # 3 × 3 × 268
    assert "Assumed: 70% of 67 TFLOPS in fp32, 65% of 4,800 GB/s, 8 µs per kernel; set by hand" in out
    assert "Range: from 100% in fp32, 90% of the bandwidth, 3 µs" in out and "NVIDIA H200 Tensor Core GPU" in out
    assert "Layers of a step: digits, MGDA" in out and "encoder.1.0" in out and "% of time" in out
    assert "Memory: tensors take up to" in out
    assert not list(tmp_path.iterdir())  # nothing is made or kept


def test_an_estimate_for_scripts(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    request = ["--method", "ew", "--data", "officehome", "--seeds", "0", "1", "--device", "RTX 3090", "--json"]
    assert ask(*request, "--epochs", "2", "--set", "compute.precision=bf16", "train.batch_size=1024") == 0
    found = json.loads(capsys.readouterr().out)
    (one,) = found["groups"]
    group = one["group"]
    assert group["pending"] == 2 and group["steps"] == 2 * (2635 // 1024)
    assert one["fastest"] < group["seconds"] < one["slowest"]
    assert group["seconds"] == pytest.approx(group["steps"] * group["cost"]["step"])
    assert sum(layer["seconds"] for layer in one["layers"]) < group["cost"]["step"]  # which includes evaluation
    assert found["arithmetic"] == ["bf16", "fp32"] and found["assumed"]["tensor_cores"] == 0.4
    assert found["missing"] == ["officehome"] and found["hardware"]["memory"] == 24 * 2**30


def test_too_little_memory_is_said(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    request = ["--method", "ew", "--data", "officehome", "--seeds", "0", "--device", "RTX 3090"]
    assert ask(*request, "--set", "train.batch_size=512") == 0
    assert "Not enough memory: tensors take up to" in capsys.readouterr().out


def test_a_step_that_depends_on_numbers_is_named(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    request = ["--method", "normal", "--data", "digits", "--seeds", "0", "--device", "H100"]
    assert ask(*request, "--set", "arch.solver=dopri5") == 0
    out = capsys.readouterr().out
    assert "could not be counted" in out and "at least" in out


def test_bad_input_ends_with_a_line_and_2(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    for request, expected in {
        "--method ew --data digits --device H20": "Did you mean 'H200'?",
        "--method ew --data digits --device tpu": "Known: auto, cpu, cuda, H200",
        "--method ew --data digits --device cpu --layers": "--layers: expected --device H200 or",
        "--method ew --data digits --device cuda:9": "found none on this machine",
    }.items():
        assert ask(*request.split()) == 2, request
        error = capsys.readouterr().err
        assert expected in error and len(error.strip().splitlines()) == 1, request


def test_the_fit_finds_the_rates_behind_times() -> None:
    true = Rates(fp32=2e10, bf16=2e10, bandwidth=4e9, launch=2e-5)
    kinds = [(10**9, 10**6, 1.0), (10**6, 10**8, 1.0), (10**4, 10**4, 300.0), (10**8, 10**7, 30.0)]
    counts = [Counts({kernel(flops, size): times}, 0) for flops, size, times in kinds]
    found = fitted(counts, [true.total(count) for count in counts])
    for name in ("fp32", "bandwidth", "launch"):
        assert getattr(found, name) == pytest.approx(getattr(true, name), rel=0.01), name


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["hps", "normal"])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_every_step_can_be_counted(weighting: str, architecture: str) -> None:
    spec = resolve(
        "digits", architecture=architecture, weighting=weighting, seed=0, assignments={"train.batch_size": 2}
    )
    assert count_step(spec, SMALL).flops > 0


@pytest.mark.slow
def test_most_predicted_times_are_within_a_factor_of_two_here() -> None:
    """Not all: other work on the machine slows some steps down. Quiet measurements are in reports/reference."""
    torch.set_num_threads(1)
    predicted = [step for step in check(PROBLEMS, rounds=3).steps if not step.problem.fitted]
    factors = {f"{step.problem.key}, {step.problem.method}": step.factor for step in predicted}
    far = {name: factor for name, factor in factors.items() if not 0.5 < factor < 2}
    assert len(far) <= len(factors) // 4 and all(0.2 < factor < 5 for factor in far.values()), far


def checked(accelerator: str, memory_mib: int = 143_155) -> HardwareRecord:
    """The check of an accelerator that timed two steps on noise, and one of a data set."""
    timed = {"label": "", "method": "ew", "images": 2, "seconds": [9.0, 0.5, 0.1]}
    steps = [("nyuv2", ""), ("nyuv2", "bf16"), ("digits", "")]
    return HardwareRecord(
        machine="here",
        device="cuda",
        date="2031-05-04T12:30:00+00:00",
        environment={"accelerator": accelerator, "memory_mib": memory_mib},
        settings={"size": "cpu"},
        seconds={},
        checks=[],
        speeds=[Speed.model_validate({**timed, "workload": on, "setting": setting}) for on, setting in steps],
    )


def test_estimates_stand_beside_what_a_check_measured() -> None:
    record = checked("NVIDIA H200")
    (step,) = estimates_of(record)
    assert (step.workload, step.method, step.measured, step.memory) == ("nyuv2", "ew", 0.5, None)
    assert 0 < step.estimated < step.slowest
    text = beside_page(record, [step]).text()
    assert f"{step.estimated / 0.5:.2f}" in text and "Left out: nyuv2, bf16; digits, fp32." in text
    assert estimates_of(checked("NVIDIA A100-SXM4-40GB", 40_536))[0].estimated > step.estimated
    with pytest.raises(UnknownName, match=r"Expected the check of one of H200, .*found that of 'Pretend 1'"):
        estimates_of(checked("Pretend 1"))


@pytest.mark.slow
def test_ratios_of_the_docs_are_those_of_the_reference_check() -> None:
    found = estimates_of(read_hardware(ROOT / "results" / "reference" / "gpu" / "nvidia-h200" / "record.json"))
    ratios = {(step.workload, step.method): step.estimated / step.measured for step in found}
    others = {key: ratio for key, ratio in ratios.items() if key[1] != "graddrop"}
    groups = {
        "0.72 to 0.79": [ratio for (on, _), ratio in others.items() if on != "nyuv2"],
        "0.53 to 0.57": [ratio for (on, _), ratio in others.items() if on == "nyuv2"],
        "0.41 to 0.79": [ratio for (_, method), ratio in ratios.items() if method == "graddrop"],
        "0.54 to 0.85": [step.memory for step in found if step.memory is not None],
    }
    docs = " ".join((ROOT / "docs" / "speed.md").read_text(encoding="utf-8").split())
    for text, values in groups.items():
        assert text == f"{min(values):.2f} to {max(values):.2f}" and text in docs
    short = [step for step in found if step.slowest < step.measured]
    assert [(step.workload, step.method, f"{step.slowest / step.measured:.2f}") for step in short] == [
        ("nyuv2", "graddrop", "0.89")
    ]

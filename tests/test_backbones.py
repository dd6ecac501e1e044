"""Encoders: their shapes, dilation, initial weights from files and downloads, and the bottleneck."""

from __future__ import annotations

import socket
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision import models

from bench.engine.build import build_network
from bench.run import main
from bench.spec.resolve import resolve
from bench.spec.settings import SpecError
from datasets import DATASETS
from methods.architectures import backbones
from methods.architectures.backbones import (
    BACKBONES,
    WeightsUnavailable,
    load_weights,
    make_encoder,
    with_bottleneck,
)
from methods.architectures.heads import HEADS

ORIGINALS = {"resnet18": models.resnet18, "resnet50": models.resnet50}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@cache
def original(name: str) -> nn.Module:
    """torchvision's network with random weights and running statistics, ready to evaluate; no test changes it."""
    network: nn.Module = ORIGINALS[name]()
    with torch.no_grad():
        for key, value in network.state_dict().items():
            if "bn" in key and value.is_floating_point():
                value.add_(0.1 * torch.rand(value.shape))
    return network.eval()


def loaded(name: str, weights: Path) -> nn.Module:
    encoder, _ = make_encoder(name, str(weights), bottleneck=False)
    return encoder.eval()


@torch.no_grad()
def test_encoders_have_the_stated_outputs_and_pyramid_heads_fit_them() -> None:
    for name, backbone in BACKBONES.items():
        encoder, features = make_encoder(name, "none", bottleneck=False)
        z = encoder.eval()(torch.randn(2, 3, 64, 96))
        assert features == backbone.features, name
        size = (64 // features.stride, 96 // features.stride) if features.dense else ()
        assert z.shape == (2, features.channels, *size), name
        if name.endswith("_dilated"):
            assert HEADS["aspp"](features, 13).eval()(z).shape == (2, 13, 64, 96), name


@torch.no_grad()
def test_celeba_has_a_map_of_8_by_8_before_its_mean_over_quarters() -> None:
    """2048 features, the width that Ye et al. (IJCAI 2023) give for CelebA, from 64 × 64 images."""
    info = DATASETS["celeba"]
    assert (info.backbone, info.backbone_weights, info.image_size) == ("resnet18_64", "none", (64, 64))
    encoder, _ = make_encoder(info.backbone, "none", bottleneck=False)
    maps: list[Tensor] = []
    encoder.get_submodule("layer4").register_forward_hook(lambda module, inputs, output: maps.append(output))
    z = encoder.eval()(torch.randn(2, 3, 64, 64))
    assert maps[0].shape == (2, 512, 8, 8)
    quarters = torch.nn.functional.avg_pool2d(maps[0], 4)
    torch.testing.assert_close(z, quarters.flatten(1))


@pytest.mark.slow
@torch.no_grad()
def test_our_dilation_is_torchvisions(tmp_path: Path) -> None:
    """torchvision dilates ResNet-50 itself, and refuses ResNet-18."""
    dilating = models.resnet50(replace_stride_with_dilation=[False, True, True]).eval()
    torch.save(dilating.state_dict(), tmp_path / "weights.pt")
    encoder = loaded("resnet50_dilated", tmp_path / "weights.pt")
    inputs = torch.randn(1, 3, 64, 64)
    expected = models._utils.IntermediateLayerGetter(dilating, {"layer4": "out"})(inputs)["out"]
    torch.testing.assert_close(encoder(inputs), expected, rtol=0, atol=0)
    with pytest.raises((ValueError, NotImplementedError)):
        models.resnet18(replace_stride_with_dilation=[False, True, True])


@torch.no_grad()
def test_dilated_resnet18_matches_resnet18_at_every_second_pixel(tmp_path: Path) -> None:
    """The first dilated stage computes what a strided one does, at twice the resolution."""
    network = original("resnet18")
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    dilated = loaded("resnet18_dilated", tmp_path / "weights.pt")
    inputs = torch.randn(1, 3, 64, 64)
    stem = nn.Sequential(*list(network.children())[:7])  # up to layer3
    torch.testing.assert_close(
        nn.Sequential(*list(dilated)[:7])(inputs)[..., ::2, ::2], stem(inputs), rtol=1e-4, atol=1e-5
    )


Save = Callable[[Mapping[str, Tensor], Path], object]
FORMS: dict[str, tuple[str, Save]] = {
    "state dict": ("weights.pth", torch.save),
    "old state dict": ("weights.pt", lambda s, p: torch.save(s, p, _use_new_zipfile_serialization=False)),
    "safetensors": ("weights.safetensors", lambda s, p: safetensors.torch.save_file(dict(s), p)),
    "data parallel": ("weights.pt", lambda s, p: torch.save({f"module.{k}": v for k, v in s.items()}, p)),
    "compiled": ("weights.pt", lambda s, p: torch.save({f"_orig_mod.module.{k}": v for k, v in s.items()}, p)),
    "checkpoint": ("weights.pt", lambda s, p: torch.save({"epoch": 3, "state_dict": dict(s)}, p)),
    "prefixed safetensors": (
        "weights.safetensors",
        lambda s, p: safetensors.torch.save_file({f"module.{k}": v for k, v in s.items()}, p),
    ),
    "without the classifier": (
        "weights.pt",
        lambda s, p: torch.save({k: v for k, v in s.items() if not k.startswith("fc.")}, p),
    ),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@torch.no_grad()
def test_weights_come_from_a_file(tmp_path: Path, form: tuple[str, Save]) -> None:
    name, save = form
    network = original("resnet18")
    save(network.state_dict(), tmp_path / name)
    inputs = torch.randn(2, 3, 64, 64)
    features = nn.Sequential(*list(network.children())[:-1])  # all but the classifier
    expected = features(inputs).flatten(1)
    torch.testing.assert_close(loaded("resnet18", tmp_path / name)(inputs), expected, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18_quarters", "resnet18_dilated", "resnet50", "resnet50_dilated"])
@torch.no_grad()
def test_weights_of_a_resnet_fit_its_variants(tmp_path: Path, name: str) -> None:
    state = original(name.split("_")[0]).state_dict()
    safetensors.torch.save_file(state, tmp_path / "weights.safetensors")
    wanted = [value for key, value in state.items() if not key.startswith("fc.")]
    found = list(loaded(name, tmp_path / "weights.safetensors").state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def refused(weights: Path, name: str = "resnet18") -> str:
    with pytest.raises(WeightsUnavailable) as caught:
        make_encoder(name, str(weights), bottleneck=False)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(weights) in message
    return message


class Evil:
    """What a pickle that runs code looks like."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, ("/tmp/must-not-be-made-by-a-test-of-weights", "w")


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", b"PK\x03\x04" + bytes(200)], ids=["empty", "web", "zip"]
)
def test_a_file_without_weights_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert "expected a state dict saved by torch, or a .safetensors file" in refused(tmp_path / name)


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_a_truncated_file_of_weights_is_named(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"weights.{ending}"
    FORMS["state dict" if ending == "pt" else "safetensors"][1](original("resnet18").state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "expected a state dict saved by torch" in refused(path)


def test_weight_files_run_no_code(tmp_path: Path) -> None:
    torch.save({"conv1.weight": Evil()}, tmp_path / "weights.pt")
    refused(tmp_path / "weights.pt")
    assert not Path("/tmp/must-not-be-made-by-a-test-of-weights").exists()


@pytest.mark.parametrize("content", [[1, 2], {}, {"conv1.weight": 3}, {"state_dict": {"conv1.weight": "no"}}])
def test_a_file_of_something_else_is_named(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pt")
    assert "expected a state dict (tensors by name), found" in refused(tmp_path / "weights.pt")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(original("resnet50").state_dict(), tmp_path / "weights.pt")
    assert "don't fit the encoder" in refused(tmp_path / "weights.pt")
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "one.pt")
    assert "don't fit the encoder" in refused(tmp_path / "one.pt")


@pytest.fixture
def silent_server() -> Iterator[int]:
    """The port of a server that takes calls and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def through(port: int, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Sends all traffic of this process to a port of this machine, and starts without fetched weights."""
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(cache))
    urllib.request.install_opener(None)  # type: ignore[arg-type]  # the one in place knows the proxies of before


def test_without_a_network_one_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    through(9, monkeypatch, tmp_path)  # where nobody listens
    backbone = BACKBONES["resnet18"]
    with pytest.raises(WeightsUnavailable) as caught:
        load_weights(backbone.make(), backbone, "imagenet")
    message = str(caught.value)
    assert message.startswith("Could not download ImageNet weights from https://download.pytorch.org/models/resnet18-")
    assert "--set backbone.weights=PATH" in message and "backbone.weights=none" in message
    assert len(message.splitlines()) == 1


def test_a_network_that_does_not_answer_ends_in_that_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent_server: int
) -> None:
    through(silent_server, monkeypatch, tmp_path)
    monkeypatch.setattr(backbones, "_PATIENCE", 0.3)
    start, before = time.monotonic(), socket.getdefaulttimeout()
    with pytest.raises(WeightsUnavailable, match=r"Could not download .* \(.*timed out"):
        load_weights(BACKBONES["resnet50"].make(), BACKBONES["resnet50"], "imagenet")
    assert time.monotonic() - start < 15
    assert socket.getdefaulttimeout() == before


def test_a_damaged_fetched_file_ends_in_that_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    through(9, monkeypatch, tmp_path)
    checkpoints = tmp_path / "hub/checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "resnet18-f37072fd.pth").write_bytes(b"half")
    with pytest.raises(WeightsUnavailable, match="Could not download ImageNet weights"):
        load_weights(BACKBONES["resnet18"].make(), BACKBONES["resnet18"], "imagenet")


def test_a_command_without_a_network_ends_with_a_sentence(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    through(9, monkeypatch, tmp_path / "cache")
    words = f"--method ew --data digits --jobs 1 --data-root {data_root} --results {tmp_path / 'results'}"
    assert main([*words.split(), "--set", "backbone.name=resnet18", "backbone.weights=imagenet"]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("Downloading:")]
    assert len(error) == 1
    assert error[0].startswith("Could not download ImageNet weights from")
    assert not list((tmp_path / "results").rglob("record.json"))


def test_the_bottleneck_is_libmtls() -> None:
    """512 → 512 from N(0, 0.005) with bias 0.1, BatchNorm, ReLU, dropout of a half."""
    plain, features = make_encoder("resnet18", "none", bottleneck=False)
    encoder, narrow = with_bottleneck(plain, features)
    assert (narrow.channels, narrow.dense) == (512, False)
    linear, norm, relu, dropout = encoder.get_submodule("1").children()
    assert isinstance(linear, nn.Linear) and linear.weight.shape == (512, 512)
    assert linear.weight.mean().item() == pytest.approx(0, abs=5e-5)
    assert linear.weight.std().item() == pytest.approx(0.005, rel=0.02)
    assert (linear.bias == 0.1).all()
    assert isinstance(norm, nn.BatchNorm1d) and isinstance(relu, nn.ReLU)
    assert isinstance(dropout, nn.Dropout) and dropout.p == 0.5
    inputs = torch.randn(8, 3, 32, 32)
    zeros = (encoder.train()(inputs) == 0).float().mean().item()
    assert zeros == pytest.approx(0.75, abs=0.05)  # half by the ReLU, half of the rest by dropout
    encoder.eval()
    assert torch.equal(encoder(inputs), encoder(inputs))


def test_the_bottleneck_follows_any_encoder_of_vectors() -> None:
    for name in ("small", "small_face", "resnet18_quarters", "resnet50"):
        encoder, features = make_encoder(name, "none", bottleneck=True)
        assert encoder(torch.randn(2, 3, 32, 32)).shape == (2, features.channels) == (2, 512), name


def test_the_bottleneck_is_shared_and_moves_no_other_weight() -> None:
    plain, narrow = (resolve("digits", "ew", assignments=settings) for settings in ({}, {"backbone.bottleneck": True}))
    assert dict(narrow.overrides) == {"backbone.bottleneck": True}
    before, after = (build_network(spec, torch.device("cpu")) for spec in (plain, narrow))
    encoder = list(before.shared_parameters())
    assert len(after.shared_parameters()) == len(encoder) + 4
    assert all(torch.equal(a, b) for a, b in zip(encoder, after.shared_parameters(), strict=False))


def test_the_bottleneck_of_maps_is_refused() -> None:
    with pytest.raises(SpecError, match=r"backbone\.bottleneck: expected false with resnet18_dilated, .*found true"):
        resolve("nyuv2", "ew", assignments={"backbone.bottleneck": True})
    with pytest.raises(ValueError, match=r"backbone\.bottleneck"):
        with_bottleneck(nn.Identity(), BACKBONES["small_dense"].features)

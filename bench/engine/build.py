"""The network of a run: the same encoder and heads, from the same random numbers, for every method of a seed."""

from __future__ import annotations

import torch

from bench.engine.seeds import seed_for
from bench.spec import RunSpec
from methods.architectures.backbones import make_encoder
from methods.architectures.heads import HEADS
from methods.contract import Network


def build_network(spec: RunSpec, device: torch.device) -> Network:
    """Encoder, heads and whatever the architecture puts between them, each drawn from a stream of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(spec.seed, "init", "encoder"))
        encoder, features = make_encoder(spec.backbone.name, spec.backbone.weights, spec.backbone.bottleneck)
        heads = []
        for index, task in enumerate(spec.info.tasks):
            torch.manual_seed(seed_for(spec.seed, "init", "head", index))
            heads.append(HEADS[spec.heads.name](features, task.outputs))
        torch.manual_seed(seed_for(spec.seed, "init", "architecture"))
        network = spec.arch_settings.build(encoder, heads, features, spec.tasks)
    network.to(device)
    return network

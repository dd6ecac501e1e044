"""The network of a run: the same encoder and heads, from the same random numbers, for every method of a seed."""

from __future__ import annotations

import torch

from bench.engine.seeds import seed_for
from bench.spec import RunSpec
from methods.architectures.backbones import BACKBONES, load_weights
from methods.architectures.heads import HEADS
from methods.contract import Network


def build_network(spec: RunSpec, device: torch.device) -> Network:
    """Encoder, heads and whatever the architecture puts between them, each drawn from a stream of its own."""
    backbone = BACKBONES[spec.backbone.name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(spec.seed, "init", "encoder"))
        encoder = backbone.make()
        load_weights(encoder, backbone, spec.backbone.weights)
        heads = []
        for index, task in enumerate(spec.info.tasks):
            torch.manual_seed(seed_for(spec.seed, "init", "head", index))
            heads.append(HEADS[spec.heads.name](backbone.features, task.outputs))
        torch.manual_seed(seed_for(spec.seed, "init", "architecture"))
        network = spec.arch_settings.build(encoder, heads, backbone.features, spec.tasks)
    network.to(device)
    return network

"""The network of a run: the same encoder and heads, from the same random numbers, for every method of a seed."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bench.engine.precision import prepare
from bench.engine.seeds import seed_for
from bench.spec.resolve import RunSpec
from datasets.contract import Task
from methods.architectures.backbones import make_encoder
from methods.architectures.heads import HEADS
from methods.contract import Network


def build_network(spec: RunSpec, device: torch.device, tasks: Sequence[Task] | None = None) -> Network:
    """Encoder, heads and whatever the architecture puts between them, each drawn from a stream of its own.

    tasks: those that get a head; by default those of the data set.
    """
    tasks = spec.info.tasks if tasks is None else tasks
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(spec.seed, "init", "encoder"))
        encoder, features = make_encoder(
            spec.settings.backbone.name, spec.settings.backbone.weights, spec.settings.backbone.bottleneck
        )
        heads = []
        for index, task in enumerate(tasks):
            torch.manual_seed(seed_for(spec.seed, "init", "head", index))
            heads.append(HEADS[spec.settings.heads.name](features, task.outputs))
        torch.manual_seed(seed_for(spec.seed, "init", "architecture"))
        network = spec.settings.arch.build(encoder, heads, features, [task.key for task in tasks])
    network.to(device)
    prepare(network, spec.settings.compute)
    return network

"""The network of a run. Every method of a seed gets the same encoder and heads, from the same random numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bench.engine.precision import apply_compute_settings
from bench.engine.seeds import seed_for
from bench.spec.resolve import RunSpec
from datasets.contract import Task
from methods.architectures.backbones import make_encoder
from methods.architectures.heads import HEADS
from methods.contract import Network


def build_network(spec: RunSpec, device: torch.device, tasks: Sequence[Task] | None = None) -> Network:
    """Encoder, heads and the architecture's own modules, each initialized from a random stream of its own.

    tasks: those that get a head; by default those of the run. A task of the run has the same head, whichever other
        tasks are chosen.
    """
    places = spec.task_places if tasks is None else range(len(tasks))
    tasks = spec.info.tasks if tasks is None else tasks
    settings = spec.settings
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(spec.seed, "init", "encoder"))
        backbone = settings.backbone
        encoder, features = make_encoder(backbone.name, backbone.weights, backbone.bottleneck)
        heads = []
        for place, task in zip(places, tasks, strict=True):
            torch.manual_seed(seed_for(spec.seed, "init", "head", place))
            heads.append(HEADS[settings.heads.name](features, task.outputs))
        torch.manual_seed(seed_for(spec.seed, "init", "architecture"))
        network = settings.arch.build(encoder, heads, features, [task.key for task in tasks])
    network.to(device)
    apply_compute_settings(network, settings.compute)
    return network

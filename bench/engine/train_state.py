"""What training changes: a network with its optimizers, and the state of its weighting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from bench.engine.factored_layers import Layer, factorable
from bench.engine.seeds import generator_for
from bench.engine.task_gradients import SharedGradients
from bench.spec.resolve import RunSpec
from bench.spec.settings import GramianSettings, Precision
from datasets.contract import Task
from methods.contract import HeadRule, Network, State, Update, Weighting


@dataclass
class TrainState:
    """All that training changes: parameters, their optimizers, the state of the weighting and its random stream.

    optimizers: "network"; "positions" where the architecture learns task positions; "weights" where the weighting
    learns its own scales. layers: those whose gradients may stay in factors. parts, clip_norm: as in `Recipe`.
    alternating: positions move after the network. kept: the last "weights" and "head_weights", where they are renewed
    now and then. solver_fallbacks: counted over all steps.
    """

    network: Network
    tasks: Sequence[Task]
    shared: SharedGradients
    weighting: Weighting
    head_rule: HeadRule
    weighting_state: State
    optimizers: dict[str, Optimizer]
    generator: torch.Generator
    layers: Sequence[Layer] = ()
    gramian_settings: GramianSettings = field(default_factory=GramianSettings)
    precision: Precision = "fp32"
    parts: int = 1
    clip_norm: float = 0.0
    alternating: bool = False
    kept: Mapping[str, Tensor] = field(default_factory=dict)
    solver_fallbacks: int = 0


def make_train_state(spec: RunSpec, network: Network, tasks: Sequence[Task] | None = None) -> TrainState:
    """A network with fresh optimizers: Adam for it and for learned scales, what the architecture says for positions.

    tasks: those that the network has heads for; by default those of the data set.
    """
    tasks = spec.info.tasks if tasks is None else tasks
    weighting, recipe, gramian_settings = spec.settings.weighting, spec.settings.train, spec.settings.gramian
    parameters = network.shared_parameters()
    observed = network.last_block_parameters() if gramian_settings.grad_space == "last_block" else parameters
    shared = SharedGradients(parameters, len(tasks), observed, spec.settings.compute.backward == "batched")
    own = list(network.heads.parameters())
    optimizers: dict[str, Optimizer] = {
        "network": Adam([*parameters, *own], lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    }
    positions, learning = network.position_parameters(), spec.settings.arch.position_rule
    if positions and learning is not None and learning.lr_ratio:
        step_rule = {"plain": SGD, "adam": Adam}[learning.optimizer]
        optimizers["positions"] = step_rule(positions, lr=recipe.lr * learning.lr_ratio)
    state = weighting.init(len(tasks))
    if weighting.learned_lr is not None:
        optimizers["weights"] = Adam(list(state.learned.values()), lr=weighting.learned_lr)
    # A Jacobian that is asked for is needed whole; a compiled encoder runs without its layers, and of a batch that
    # passes in parts, factors would have to be kept for each.
    whole = weighting.needs == "jacobian" or spec.settings.compute.compile or recipe.accumulate > 1
    return TrainState(
        network,
        tasks,
        shared,
        weighting,
        weighting.heads if spec.settings.heads.rule == "published" else spec.settings.heads.rule,
        state,
        optimizers,
        generator_for(spec.seed, "method"),
        layers=() if whole else factorable(network, observed),
        gramian_settings=gramian_settings,
        precision=spec.settings.compute.precision,
        parts=recipe.accumulate,
        clip_norm=recipe.clip_norm,
        alternating="positions" in optimizers and learning is not None and learning.alternating,
    )


def adopt(train_state: TrainState, update: Update) -> None:
    """Makes the state of an update, and its weights where they are kept, those of the train_state."""
    train_state.weighting_state = update.state
    if train_state.gramian_settings.every > 1:
        present = {"weights": update.weights, "head_weights": update.head_weights}
        train_state.kept = {name: weights for name, weights in present.items() if weights is not None}

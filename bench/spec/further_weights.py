"""Which weights the curve of a run has: those that are applied, and others that they don't say."""

from __future__ import annotations

import math

from bench.records.mean_weights import HEAD_WEIGHTS, UNCLIPPED_WEIGHTS
from bench.spec.settings import GramianSettings, Settings
from methods.contract import HeadRule, clip_of


def head_rule_of(settings: Settings) -> HeadRule:
    """How a run scales the gradients of heads: as published, unless its settings force a rule."""
    return settings.weighting.heads if settings.heads.rule == "published" else settings.heads.rule


def further_weights(settings: Settings) -> tuple[str, ...]:
    """The columns beside `WEIGHTS`: head weights of a rule of its own, and weights before a clip.

    Weights before a clip are known at every step only if every step has a Gramian of all shared gradients and the
    weights are no running mean.
    """
    own = [HEAD_WEIGHTS] if head_rule_of(settings) == "own" else []
    clips = clip_of(settings.weighting) < math.inf and settings.gramian == GramianSettings()
    return (*own, *([UNCLIPPED_WEIGHTS] if clips else []))

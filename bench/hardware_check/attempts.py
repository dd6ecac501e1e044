"""Checks that may fail in any way: an error becomes a failed check, and the others go on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from bench import ROOT
from bench.hardware_check.deadline import Deadline
from bench.records.hardware import Check
from bench.records.plain_text import one_line
from bench.spec.settings import SpecError

NO_TIME = "no time left"
_LONGEST_ERROR = 500  # characters; those of compilers have thousands


@dataclass(frozen=True)
class Name:
    """Where a check belongs; the fields are those of `Check`."""

    part: str
    group: str
    subject: str

    def passed(self, **measured: float) -> Check:
        return Check(part=self.part, group=self.group, subject=self.subject, outcome="passed", measured=measured)

    def failed(self, detail: str, **measured: float) -> Check:
        return self.passed(**measured).model_copy(update={"outcome": "failed", "detail": one_line(detail)})

    def noted(self, detail: str, **measured: float) -> Check:
        return self.passed(**measured).model_copy(update={"outcome": "noted", "detail": one_line(detail)})

    def not_run(self, detail: str) -> Check:
        return self.passed().model_copy(update={"outcome": "not run", "detail": one_line(detail)})


def attempt(names: Sequence[Name], deadline: Deadline, check: Callable[[], Sequence[Check]]) -> list[Check]:
    """The checks of these names; for each that there is none of, why.

    A combination that our settings refuse, or that the device has too little memory for, is not run. Any other error
    is one of the device or of our code on it.
    """
    if deadline.passed:
        return [name.not_run(NO_TIME) for name in names]
    try:
        return list(check())
    except (SpecError, torch.OutOfMemoryError) as error:
        return [name.not_run(in_short(error)) for name in names]
    except Exception as error:
        return [name.failed(in_short(error)) for name in names]


def in_short(error: BaseException) -> str:
    """The type and the message of an error, as `shortened`."""
    return shortened(f"{type(error).__name__}: {error}").removesuffix(": ")


def shortened(message: str) -> str:
    """A message of bounded length on one line, without the path of this checkout."""
    return one_line(message.replace(f"{ROOT}{os.sep}", ""))[:_LONGEST_ERROR]

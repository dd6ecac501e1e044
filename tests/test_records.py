"""The store: whole files or none, and records that can't be trusted are refused by name."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from record_factory import *  # noqa: F403

from bench.records.record import Record
from bench.records.store import RECORD, RecordError, read_record, read_records, write_record, write_whole

"""How what was counted is told to Redis, and kept where Redis has surely not taken it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from headrace.errors import StoreError
from headrace.keys import keys_of
from headrace.operations import Operation
from headrace.timings import requests
from headrace.timings.recorder import Recorder
from headrace.timings.tally import Tally

log: logging.Logger = logging.getLogger(__name__)

Told: TypeAlias = Mapping[str, Mapping[str, Tally]]
"""What was counted, by queue and task."""


def adding(told: Told) -> list[Operation[int]]:
    """Return what tells Redis: one request for each queue."""
    return [requests.add(keys_of(queue), tallies) for queue, tallies in told.items()]


def keep_untold(recorder: Recorder, told: Told, answers: Sequence[Any]) -> None:
    """Count again what Redis has not taken; unless it may have, for then it would count twice."""
    for (queue, tallies), answer in zip(told.items(), answers, strict=False):
        if isinstance(answer, StoreError):
            log.debug("what became of jobs of queue %s is not told: %s", queue, answer)
            if not answer.may_have_happened:
                recorder.put_back(queue, tallies)

"""How what was counted is told to Redis, and kept where Redis has surely not taken it.

One round trip whatever the number of jobs, and none while nothing has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from headrace.errors import StoreError
from headrace.keys import keys_of
from headrace.operations import Operation
from headrace.store import AsyncStore
from headrace.timings import requests
from headrace.timings.recorder import Recorder
from headrace.timings.tally import Tally

log: logging.Logger = logging.getLogger(__name__)

Told: TypeAlias = Mapping[str, Mapping[str, Tally]]
"""What was counted, by queue and task."""

EVERY_S: Final = 10.0
"""How often Redis is told; a process that dies takes so much with it."""

LAST_S: Final = 1.0
"""How long a process that ends waits for it."""


async def tell(store: AsyncStore, recorder: Recorder, told: Told, *beside: Operation[Any]) -> bool:
    """Tell Redis what the recorder gave out, and what else goes with it; return whether Redis answered.

    What Redis has not taken is counted again; unless it may have, for then it would count twice.
    """
    adding = [requests.add(keys_of(queue), tallies) for queue, tallies in told.items()]
    try:
        answers = await store.run_all([*adding, *beside])
    except StoreError as error:
        _keep_untold(recorder, told, [error] * len(told))
        return False
    _keep_untold(recorder, told, answers)
    return True


def _keep_untold(recorder: Recorder, told: Told, answers: Sequence[Any]) -> None:
    for (queue, tallies), answer in zip(told.items(), answers, strict=False):
        if isinstance(answer, StoreError):
            log.debug("what became of jobs of queue %s is not told: %s", queue, answer)
            if not answer.may_have_happened:
                recorder.put_back(queue, tallies)

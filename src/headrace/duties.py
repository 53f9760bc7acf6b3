"""What the leader does beside the upkeep of queues: the duties of all parts, for consumers and servers."""

from __future__ import annotations

from typing import Final

from headrace.flow_control import LanesDuty
from headrace.maintenance import DutyMaker
from headrace.schedules import Schedules
from headrace.workflows.duty import Workflows

DUTIES: Final[tuple[DutyMaker, ...]] = (Schedules, Workflows, LanesDuty)
"""Each is turned by whoever leads, in this order."""

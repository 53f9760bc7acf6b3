"""Flow control: what producers and the leader do so that limits hold. Where jobs wait: ``lanes``."""

from headrace.flow_control.duty import LanesDuty
from headrace.flow_control.producer import LaneProducer

__all__ = ["LaneProducer", "LanesDuty"]

"""Several consumers on one machine, as processes: started, watched and replaced."""

from headrace.supervisor.recycling import Limits
from headrace.supervisor.supervisor import Observer, supervise

__all__ = ["Limits", "Observer", "supervise"]

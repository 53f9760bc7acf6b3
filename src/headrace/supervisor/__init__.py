"""Several consumers on one machine, as processes: started, watched and replaced."""

from headrace.supervisor.supervisor import supervise

__all__ = ["supervise"]

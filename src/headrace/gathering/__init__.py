"""Gathering: the ends of many jobs, in the order in which they come, over one connection."""

from headrace.gathering.gathering import aresults_of, results_of

__all__ = ["aresults_of", "results_of"]

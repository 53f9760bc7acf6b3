"""Unique jobs beyond ``keep``: a job that takes the place of an earlier one with its key, or puts it off.

A plain ``key=`` is the core's; its script gives way to the one here for jobs that ask for more.
"""

from headrace.unique.replacing import REPLACING, Look, looked, replace, searched

__all__ = ["REPLACING", "Look", "looked", "replace", "searched"]

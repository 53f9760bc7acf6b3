"""Schedules that stand in code: each belongs to a task; a consumer makes them known while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from headrace.errors import InvalidSetting, StoreError, StoreRefused
from headrace.hooks import apassed, passed
from headrace.producer import Call
from headrace.schedules import changes
from headrace.schedules.definition import Definition, Missed, checked_name, define
from headrace.schedules.timing import Timing
from headrace.store import AsyncStore

log: logging.Logger = logging.getLogger(__name__)

_EVERY_S: Final = 30.0
_AGAIN_S: Final = 1.0  # after Redis was away


@dataclass(frozen=True, slots=True)
class Declared:
    """One schedule of a task.

    Attributes:
        name: its name.
        when: its ticks.
        missed: what becomes of missed ones.
        call: makes the job, of the task as an application has it; None as it was declared.
    """

    name: str
    when: Timing
    missed: Missed
    call: Callable[[Any], Call[Any]]


def declare(
    schedules: list[Declared],
    name: str,
    when: Timing,
    *,
    missed: Missed,
    call: Callable[[Any], Call[Any]],
) -> None:
    """Add a schedule to those of a task, once it is known to have a meaning.

    Raises:
        InvalidSetting: an option has no meaning, or the task has a schedule of that name.
        InvalidJob: the call does not fit the task.
    """
    checked_name(name)
    define(call(None), when, missed=missed).encoded()  # its hooks may be declared later
    if any(one.name == name for one in schedules):
        raise InvalidSetting(f"there is a schedule {name!r} already: give this one name=")
    schedules.append(Declared(name, when, missed, call))


def definitions_of(tasks: Mapping[str, Any]) -> dict[str, Definition]:
    """Return all schedules that the tasks of an application declare, by name.

    Raises:
        InvalidSetting: two have one name; or a hook around their enqueues is async.
    """
    return {
        one.name: _definition(one, passed(call, one.name), task)
        for one, call, task in _declared_by(tasks).values()
    }


async def adefinitions_of(tasks: Mapping[str, Any]) -> dict[str, Definition]:
    """Return all schedules that the tasks of an application declare, as ``definitions_of`` does."""
    return {
        one.name: _definition(one, await apassed(call, one.name), task)
        for one, call, task in _declared_by(tasks).values()
    }


def _definition(one: Declared, call: Call[Any], task: Any) -> Definition:
    return define(call, one.when, missed=one.missed, declared=True, partitions=task.partitions)


def _declared_by(tasks: Mapping[str, Any]) -> dict[str, tuple[Declared, Call[Any], Any]]:
    found: dict[str, tuple[Declared, Call[Any], Any]] = {}
    for task in tasks.values():
        for one in task.schedules:
            if one.name in found:
                raise InvalidSetting(f"two schedules are called {one.name!r}: give one name=")
            found[one.name] = one, one.call(task), task
    return found


async def keep_declared(store: AsyncStore, declared: Mapping[str, Definition]) -> None:
    """Make schedules known, and keep them so, until cancelled: Redis may be emptied, or roll back."""
    replace, told = True, ""
    while True:
        pause_s = _EVERY_S
        try:
            await store.follow(changes.declare(declared, replace=replace))
            replace = False
        except StoreRefused as error:
            if told != str(error):
                log.error("the schedules of this application are not known: %s", error)
            told = str(error)
        except StoreError:  # other parts tell of it
            pause_s = _AGAIN_S
        await asyncio.sleep(pause_s)

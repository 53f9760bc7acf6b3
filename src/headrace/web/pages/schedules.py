"""Schedules: when their next ticks are, how late the last was; add, pause, resume, remove."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from headrace import operations as op
from headrace import redaction
from headrace.errors import InvalidJob, InvalidSetting
from headrace.schedules import changes
from headrace.web.access import note_about
from headrace.web.api.schedules import Schedules
from headrace.web.pages import schedule_form
from headrace.web.pages.job import block
from headrace.web.pages.shell import Shell, form_of, lead
from headrace.web.problems import Refusal

_TICKS: Final = 5  # that are shown ahead


class SchedulesPage:
    """The page of schedules.

    Args:
        shell: writes it.
        schedules: what the API does with schedules.
    """

    def __init__(self, shell: Shell, schedules: Schedules) -> None:
        self._shell = shell
        self._schedules = schedules

    async def schedules(self, request: Request) -> Response:
        """Show all schedules."""
        return await self._show(request, schedule_form.typed({}), {})

    async def add(self, request: Request) -> Response:
        """Add a schedule; if something is wrong with it, show the form again, and say what beside its field."""
        values = schedule_form.typed(await form_of(request))
        new, wrong = schedule_form.read(values)
        if new is not None:
            note_about(request, values["name"])
            try:
                await self._schedules.put(request, values["name"], new)
            except Refusal as refused:
                if refused.kind != "conflict":
                    raise
                say = f"there is a schedule {values['name']!r} already: choose another name, or remove that one first"
                wrong["name"] = say
            except InvalidJob as error:
                wrong["args"] = str(error)
            except InvalidSetting as error:
                wrong["name"] = str(error)
        if wrong:
            return await self._show(request, values, wrong)
        return lead(request, "schedules", done="schedule-added")

    async def _show(
        self, request: Request, values: Mapping[str, str], wrong: Mapping[str, str]
    ) -> Response:
        """Show all schedules, and the form: what was typed, and what is wrong with it."""
        found = await self._schedules.mine(request)
        (now_ms,) = await self._shell.reader.ask([op.time_ms()])
        ticks = {
            one.name: [round(at.timestamp() * 1000) for at in one.ticks(_TICKS)] for one in found
        }
        calls = {
            one.name: block("what each tick enqueues", redaction.shown(bytes(one.definition.job)))
            for one in found
            if one.definition is not None
        }
        return self._shell.page(
            request, "schedules", status=400 if wrong else 200, schedules=found, ticks=ticks,
            calls=calls, now_ms=int(now_ms), fields=schedule_form.FIELDS, values=values, wrong=wrong,
        )  # fmt: skip

    async def pause(self, request: Request) -> Response:
        """Pause a schedule."""
        await self._schedules.change(request, changes.pause)
        return lead(request, "schedules", done="schedule-paused")

    async def resume(self, request: Request) -> Response:
        """Resume a schedule."""
        await self._schedules.change(request, changes.resume)
        return lead(request, "schedules", done="schedule-resumed")

    async def ask_remove(self, request: Request) -> Response:
        """Ask whether a schedule is to be removed."""
        one = await self._schedules.named(request)
        comes_back = one.declared and not one.undeclared
        why = "Jobs that it has enqueued stay."
        if comes_back:
            why += " A running application declares it, so it comes back: to be rid of its ticks, pause it."
        return self._shell.ask(
            request, here="schedules", title="Remove a schedule", what=one.name, why=why,
            question="Remove this schedule?", verb="Remove the schedule", back="schedules",
        )  # fmt: skip

    async def remove(self, request: Request) -> Response:
        """Remove a schedule."""
        await self._schedules.change(request, changes.remove)
        return lead(request, "schedules", done="schedule-removed")

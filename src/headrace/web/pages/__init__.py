"""The pages: what operators see of queues, jobs and consumers, and what they do with them.

Written by the server, with forms that lead to a page again; the first page's script alone shows more, as it
happens. What a page shows or does it has from the API's own functions, with their checks of rights and queues.

    shell           what all have in common
    overview        the queues, one of them live            life_cycle   its picture
    statistics      what became of jobs lately              charts       how that is drawn
    queue, job      the jobs of a place; one job whole
    dead_letters    the workbench                           letter       one of them, edited and put back
    consumers, doctor
    schedules       all of them                             schedule_form   a new one
    workflow        one workflow                            drawing      its picture
    under_the_hood  for learners
    login           for browsers, where there are tokens
"""

from __future__ import annotations

from headrace.web.pages.routes import routes
from headrace.web.pages.shell import Shell

__all__ = ["Shell", "routes"]

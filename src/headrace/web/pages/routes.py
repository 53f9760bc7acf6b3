"""Which path is which page, and what whoever asks for it must be allowed to."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.routing import Route

from headrace.access import Right
from headrace.policy import LeasePolicy
from headrace.store import AsyncStore
from headrace.web.access import Handle, allowed
from headrace.web.api import Api
from headrace.web.pages.consumers import ConsumersPage
from headrace.web.pages.dead_letters import Workbench
from headrace.web.pages.doctor import DoctorPage
from headrace.web.pages.job import JobPage
from headrace.web.pages.letter import LetterPage
from headrace.web.pages.login import Login
from headrace.web.pages.overview import Overview
from headrace.web.pages.queue import QueuePage
from headrace.web.pages.schedules import SchedulesPage
from headrace.web.pages.shell import Shell
from headrace.web.pages.under_the_hood import UnderTheHood
from headrace.web.pages.workflow import WorkflowPage
from headrace.web.updates import Updates


def routes(
    shell: Shell,
    api: Api,
    store: AsyncStore,
    updates: Updates,
    policy: LeasePolicy,
    *,
    secure: bool,
) -> list[Route]:
    """Return the routes of all pages; names and ids may hold a slash.

    Args:
        shell: writes the pages.
        api: does what they ask for.
        store: the Redis.
        updates: look at the queues.
        policy: how long claims last.
        secure: whether the server is reached by https.
    """
    login = Login(shell, shell.door, secure=secure)
    return [
        Route("/login", login.login),
        Route("/login", login.sign_in, methods=["POST"]),
        Route("/logout", login.sign_out, methods=["POST"]),
        *_of_jobs(shell, api, store, updates, policy),
        *_of_letters(shell, api),
        *_of_the_rest(shell, api, store, updates, policy),
    ]


def _of_jobs(
    shell: Shell, api: Api, store: AsyncStore, updates: Updates, policy: LeasePolicy
) -> Iterator[Route]:
    overview, queue = Overview(shell, updates, store), QueuePage(shell, api.queues, store)
    job = JobPage(shell, api.jobs, store, policy)
    yield _get("/", overview.overview)
    yield _post("/queues/{queue:rest}/pause", queue.pause)
    yield _post("/queues/{queue:rest}/resume", queue.resume)
    yield _get("/queues/{queue:rest}", queue.queue)
    yield _get("/jobs/{job_id:rest}/cancel", job.ask_cancel, "operate")
    yield _post("/jobs/{job_id:rest}/cancel", job.cancel)
    yield _get("/jobs/{job_id:rest}", job.job)


def _of_letters(shell: Shell, api: Api) -> Iterator[Route]:
    letters, letter = Workbench(shell, api.letters), LetterPage(shell, api.letters)
    yield _get("/dead-letters", letters.letters)
    yield _get("/dead-letters/purge", letters.ask_purge, "administer")
    yield _post("/dead-letters/purge", letters.purge, "administer")
    yield _post("/dead-letters/redrive", letters.redrive)
    yield _post("/dead-letters/{job_id:rest}/redrive", letter.redrive)
    yield _get("/dead-letters/{job_id:rest}", letter.letter)


def _of_the_rest(
    shell: Shell, api: Api, store: AsyncStore, updates: Updates, policy: LeasePolicy
) -> Iterator[Route]:
    schedules = SchedulesPage(shell, api.schedules)
    workflow, hood = WorkflowPage(shell, api.workflows, store), UnderTheHood(shell)
    yield _get("/consumers", ConsumersPage(shell, api.consumers, updates).consumers)
    yield _get("/schedules", schedules.schedules)
    yield _post("/schedules", schedules.add)
    yield _post("/schedules/{name:rest}/pause", schedules.pause)
    yield _post("/schedules/{name:rest}/resume", schedules.resume)
    yield _get("/schedules/{name:rest}/remove", schedules.ask_remove, "operate")
    yield _post("/schedules/{name:rest}/remove", schedules.remove)
    yield _get("/workflows/{workflow_id:rest}/cancel", workflow.ask_cancel, "operate")
    yield _post("/workflows/{workflow_id:rest}/cancel", workflow.cancel)
    yield _get("/workflows/{workflow_id:rest}", workflow.workflow)
    yield _get("/doctor", DoctorPage(shell, store, policy).doctor)
    yield _get("/under-the-hood", hood.choose)
    yield _get("/under-the-hood/{queue:rest}", hood.under_the_hood)


def _get(path: str, handle: Handle, right: Right = "look") -> Route:
    return Route(path, allowed(handle, right))


def _post(path: str, handle: Handle, right: Right = "operate") -> Route:
    return Route(path, allowed(handle, right), methods=["POST"])

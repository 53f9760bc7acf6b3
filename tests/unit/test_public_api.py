"""What users may rely on: a name that is added, taken away or renamed here is added, taken away or renamed for them."""

from __future__ import annotations

from types import ModuleType

import pytest

import headrace

METHODS = {
    "Headrace": "aclose aenqueue aenqueue_many around_enqueue around_run batch_task call call_with caller close cron "
    "declared_schedules discover enqueue enqueue_many every find_task import_discovered include job "
    "limit_queue on partition_queue producer task use workflow",
    "Tasks": "around_enqueue around_run batch_task cron every find_task include on producer task",
    "Task": "aenqueue arguments bind call call_with cron delay encrypted_by enqueue every hooked_by hooked_call "
    "misfit opened options runs seal sealed_item told",
    "Encryption": "generate_key key_ids open seal",
    "Job": "acancel ahistory aprogress aresult astatus cancel history id progress queue "
    "result status stream",
    "Context": "attempt check delivery enqueue hand_off headers job job_id max_attempts progress queue "
    "scheduled_at state stop_reason stopping task",
    "Workflow": "acancel aresult astatus cancel id queue result status",
    "Backoff": "base_s delay_s factor jitter max_s",
}


def test_what_is_exported_is_all_that_has_a_public_name() -> None:
    names = [
        name
        for name, value in vars(headrace).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    ]
    assert sorted(names) == sorted(headrace.__all__)


def test_the_list_is_sorted_so_that_a_change_of_it_is_one_line() -> None:
    constants = [name for name in headrace.__all__ if name.isupper()]
    others = [name for name in headrace.__all__ if not name.isupper()]
    assert headrace.__all__ == [*sorted(constants), *sorted(others)]


@pytest.mark.parametrize("name", METHODS)
def test_a_class_has_these_public_members_and_no_others(name: str) -> None:
    members = [member for member in dir(getattr(headrace, name)) if not member.startswith("_")]
    assert members == METHODS[name].split()


def test_whatever_is_raised_has_one_root_but_what_ends_a_thread_and_must_not_be_caught() -> None:
    errors = [getattr(headrace, name) for name in headrace.__all__]
    errors = [e for e in errors if isinstance(e, type) and issubclass(e, BaseException)]
    assert len(errors) > 20
    strange = [e for e in errors if not issubclass(e, headrace.HeadraceError)]
    assert strange == [headrace.JobInterrupted]
    assert not issubclass(headrace.JobInterrupted, Exception)

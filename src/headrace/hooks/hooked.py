"""How hooks are declared: the methods of ``Headrace`` and ``Tasks`` for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from headrace.errors import InvalidSetting
from headrace.function import is_async
from headrace.hooks.events import NAMES, Event, EventName
from headrace.hooks.hooks import Hooks
from headrace.hooks.steps import Step, name_of, step_of

H = TypeVar("H", bound=Callable[..., Any])
L = TypeVar("L", bound=Callable[[Event], Any])


class Hooked:
    """Something that has hooks.

    Attributes:
        hooks: they.
    """

    def __init__(self) -> None:
        self.hooks: Hooks = Hooks()

    def around_run(self, hook: H, /) -> H:
        """Put something around each run of a task: ``@app.around_run``.

        The first that is declared is the outermost. An application's stand outside those of the tasks that
        it includes.

        Args:
            hook: takes the ``Context`` and yields once: a generator function, async or not. What it raises
                takes the place of what the task raises, or returns; it cannot swallow an exception.

        Raises:
            InvalidSetting: it does not yield.
        """
        self.hooks.run.append(_opened("around_run", hook))
        self.hooks.changed()
        return hook

    def around_enqueue(self, hook: H, /) -> H:
        """Put something around each enqueue of a job: ``@app.around_enqueue``.

        Args:
            hook: takes an ``EnqueueRequest``, which it may change, and yields once, while the job is sent. An
                async generator is for the awaited methods alone (``aenqueue``, ``aenqueue_many``).

        Raises:
            InvalidSetting: it does not yield.
        """
        self.hooks.enqueue.append(_opened("around_enqueue", hook))
        self.hooks.changed()
        return hook

    def on(self, *names: EventName) -> Callable[[L], L]:
        """Have a function called with each ``Event`` of these names: ``@app.on("succeeded", "dead")``.

        In a consumer it is called in a thread of its own, or on the event loop if it is async, one event after
        the other. Whatever it raises is logged, and changes nothing for the job.

        Raises:
            InvalidSetting: there is no such event, or an async function would have to hear of ``enqueued``.
        """
        unknown = [repr(name) for name in names if name not in NAMES]
        if unknown or not names:
            said = f"there is no event {', '.join(unknown)}" if unknown else "on() takes events"
            raise InvalidSetting(f"{said}; the events are {', '.join(NAMES)}")

        def listen(listener: L) -> L:
            if "enqueued" in names and is_async(listener):
                raise InvalidSetting(
                    f"{name_of(listener)} is async, and of 'enqueued' it would be told where nothing can be "
                    "awaited: let it be a plain function"
                )
            for name in names:
                self.hooks.listeners.setdefault(name, []).append(listener)
            self.hooks.changed()
            return listener

        return listen


def _opened(where: str, hook: Callable[..., Any]) -> Step:
    step = step_of(hook) if callable(hook) else None
    if step is None or step.kind in ("value", "awaited"):
        raise InvalidSetting(
            f"{where} takes a generator function, sync or async, that yields once while the job is "
            f"{'run' if where == 'around_run' else 'sent'}; {name_of(hook)} does not yield"
        )
    return step

"""The part of a task that knows of hooks and dependencies."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from headrace.hooks.composing import compose
from headrace.hooks.dependencies import injected_of
from headrace.hooks.enqueuing import AroundEnqueue, EnqueueRequest, around_enqueue_of
from headrace.hooks.events import Listeners
from headrace.hooks.hooks import Chain, listeners_of
from headrace.options import JobOptions
from headrace.producer import Call


class HookedTask:
    """What stands around a task's function.

    Attributes:
        run: what a run calls: the function itself, when nothing stands around it.
        listeners: who hears of the events of its jobs.
        around_enqueue: what stands around their enqueues; None for nothing.
    """

    name: str
    is_async: bool
    call_with: Callable[[tuple[Any, ...], dict[str, Any], JobOptions], Call[Any]]

    def hooked_by(self, chain: Chain) -> None:
        """Let the hooks of these stand around its jobs, the first outermost, whatever comes to them later."""
        self._chain = chain
        for hooks in chain:
            hooks.follow(self._compose)
        self._compose()

    def runs(self, function: Callable[..., Any]) -> None:
        """Let a run call this, inside of what stands around it."""
        self._innermost = function
        self._compose()

    def hooked_call(
        self, call: Call[Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: JobOptions
    ) -> Call[Any]:
        """Return a job with what stands around its enqueue."""
        assert self.around_enqueue is not None
        request = EnqueueRequest(self.name, args, kwargs, options)
        return self.around_enqueue.hooked(call, request, self.call_with)

    def _passed(
        self, function: Callable[..., Any], signature: inspect.Signature
    ) -> list[inspect.Parameter]:
        """Return the parameters of the task's function that are no dependencies.

        Raises what ``injected_of`` raises.
        """
        self._innermost, self._injected = function, injected_of(self.name, function, signature)
        self.hooked_by(())
        hidden = self._injected.names
        return [one for one in signature.parameters.values() if one.name not in hidden]

    def _compose(self) -> None:
        self.listeners: Listeners = listeners_of(self._chain)
        self.around_enqueue: AroundEnqueue | None = around_enqueue_of(self._chain)
        steps = [step for hooks in self._chain for step in hooks.run]
        self.run: Callable[..., Any] = compose(
            self._innermost, steps, self._injected, self.listeners, asynchronous=self.is_async
        )

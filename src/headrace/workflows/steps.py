"""Steps: what a workflow is made of, as data: ``chain``, ``group``, ``chord``, ``Dag``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from headrace.errors import InvalidArguments, InvalidJob
from headrace.handoff import PLACEHOLDER
from headrace.options import Seconds
from headrace.producer import Call
from headrace.workflows import starting
from headrace.workflows.handing import Keep, handed_on
from headrace.workflows.hooked import athrough_hooks, through_hooks
from headrace.workflows.node import Node, tokens_of
from headrace.workflows.workflow import Workflow

RESULT: Final[Any] = PLACEHOLDER
"""Stands for what the step before has returned, in the arguments of a call: ``pay.call(RESULT, 5)``.

After a group it is the list of what its members have returned, in their order.
"""

DAY_S: Final = 86_400.0
WINDOW: Final = 1_000

OnFailure = Literal["stop", "continue"]

_SAY: Final = "a step is a call, as add.call(1, 2) makes it, or a chain, group or chord of such"
_numbers = itertools.count()


class Steps:
    """What can be enqueued as a workflow. Made by ``chain``, ``group``, ``chord`` and ``Dag``.

    Attributes:
        nodes: its jobs.
        exits: the numbers of those that end it.
        many: what it returns is a list, with a result for each of these.
    """

    def __init__(self, nodes: list[Node], exits: Sequence[int], *, many: bool) -> None:
        self.nodes = nodes
        self.exits = exits
        self.many = many

    def then(self, step: Step) -> Steps:
        """Return these steps with one more, which begins when all of them have ended."""
        return chain(self, step)

    def enqueue(
        self, *, on_failure: OnFailure = "stop", ttl: Seconds = DAY_S, window: int = WINDOW
    ) -> Workflow:
        """Start the workflow: all of it, or nothing.

        Args:
            on_failure: at a dead member ``stop``: what waits for it goes on waiting until the letter is
                redriven; or ``continue``: what waits for it gets its error in place of a result.
            ttl: how long it can be looked at when it is over, seconds.
            window: how many of its jobs are in their queues or run at the same time, at most.

        Raises:
            InvalidJob: its members cannot be jobs, or are too many, or ask for the result of nobody.
            InvalidSetting: an option has no meaning.
            QueueFull: too many jobs wait already.
            StoreError: Redis did not do it.
        """
        options = starting.options(on_failure, ttl, window)

        def start(nodes: Sequence[Node]) -> Workflow:
            producer, plan = starting.planned(nodes, self.exits, many=self.many)
            producer.store.follow(starting.started(plan, options, producer.max_pending))
            return Workflow(producer, plan.home, plan.id, decode=plan.decode)

        return through_hooks(self.nodes, start)

    async def aenqueue(
        self, *, on_failure: OnFailure = "stop", ttl: Seconds = DAY_S, window: int = WINDOW
    ) -> Workflow:
        """Start the workflow, as ``enqueue`` does."""
        options = starting.options(on_failure, ttl, window)

        async def start(nodes: Sequence[Node]) -> Workflow:
            producer, plan = starting.planned(nodes, self.exits, many=self.many)
            await producer.astore().follow(starting.started(plan, options, producer.max_pending))
            return Workflow(producer, plan.home, plan.id, decode=plan.decode)

        return await athrough_hooks(self.nodes, start)

    def start_with(
        self,
        keep: Keep,
        *,
        on_failure: OnFailure = "stop",
        ttl: Seconds = DAY_S,
        window: int = WINDOW,
    ) -> str:
        """Let a job start the workflow when it ends (``Context.enqueue``); return the id that it will have.

        Raises what ``enqueue`` raises before it asks Redis; PayloadTooLarge.
        """
        options = starting.options(on_failure, ttl, window)
        return handed_on(self.nodes, self.exits, options, keep, many=self.many)


Step: TypeAlias = "Call[Any] | Steps"


def chain(*steps: Step) -> Steps:
    """Return steps that follow one another: each begins when the one before has ended well.

    Args:
        steps: calls (``task.call(…)``), groups, or whatever else can be enqueued as a workflow.

    Raises:
        InvalidArguments: one of them is neither.
    """
    if not steps:
        raise InvalidArguments("a chain has at least one step: chain(add.call(1, 2), …)")
    nodes: list[Node] = []
    exits: Sequence[int] = ()
    many = False
    for step in map(_steps, steps):
        by = len(nodes)
        for node in step.nodes:
            moved = node.moved(by)
            if exits and not node.after:
                moved = replace(moved, after=exits, result=exits if many else exits[0])
            nodes.append(moved)
        exits, many = [n + by for n in step.exits], step.many
    return Steps(nodes, exits, many=many)


def group(*steps: Step | Iterable[Step]) -> Steps:
    """Return steps that run beside one another: ``group(add.call(i, 1) for i in range(100_000))``.

    What follows it (``then``) begins when all have ended, and RESULT is a list there.

    Raises:
        InvalidArguments: one of them is no step.
    """
    found: Iterable[Any] = steps
    if len(steps) == 1 and not isinstance(steps[0], Call | Steps):
        found = steps[0]
    nodes: list[Node] = []
    exits: list[int] = []
    for step in map(_steps, found):
        by = len(nodes)
        nodes += [node.moved(by) for node in step.nodes]
        exits += [n + by for n in step.exits]
    if not nodes:
        raise InvalidArguments("a group has at least one step: group(add.call(i, 1) for i in …)")
    return Steps(nodes, exits, many=True)


def chord(header: Iterable[Step], callback: Step) -> Steps:
    """Return a group and what follows it: ``group(header).then(callback)``."""
    return group(header).then(callback)


class DagStep(NamedTuple):
    """A step of a ``Dag``.

    Attributes:
        n: its number.
        result: stands for what it will return, in the arguments of later steps.
    """

    n: int
    result: Any


class Dag(Steps):
    """Steps of which each says for whom it waits: a directed graph without circles.

    What nobody waits for ends it.
    """

    def __init__(self) -> None:
        super().__init__([], [], many=False)
        self._tokens: dict[int, int] = {}

    def add(self, call: Call[Any], *, after: DagStep | Iterable[DagStep] = ()) -> DagStep:
        """Add a call; it waits for those whose ``result`` stands in its arguments, and for others.

        Args:
            call: the call.
            after: other steps to wait for. RESULT stands for what they return: of several, a list.

        Raises:
            InvalidArguments: it is no call.
            InvalidJob: it asks for the result of a step that is not of this graph.
        """
        if not isinstance(call, Call):
            raise InvalidArguments(
                f"a step of a Dag is a call, as add.call(1, 2) makes it; not {call!r:.80}"
            )
        said = [after.n] if isinstance(after, DagStep) else [one.n for one in after]
        tokens = tokens_of(call)
        if unknown := [token for token in tokens if token not in self._tokens]:
            raise InvalidJob(f"{len(unknown)} of its arguments are results of another Dag's steps")
        named = tuple((token, self._tokens[token]) for token in tokens)
        waits = list(dict.fromkeys([*said, *(n for _, n in named)]))
        result = (said[0] if len(said) == 1 else said) if said else None
        token, n = next(_numbers), len(self.nodes)
        self.nodes.append(Node(call, waits, result, named))
        self._tokens[token] = n
        self.exits: Sequence[int] = [*(one for one in self.exits if one not in waits), n]
        self.many: bool = len(self.exits) != 1
        return DagStep(n, f"{PLACEHOLDER}-{token}")


def _steps(step: object) -> Steps:
    if isinstance(step, Steps):
        return step
    if isinstance(step, Call):
        return Steps([Node(step)], (0,), many=False)
    raise InvalidArguments(f"{_SAY}; it got {type(step).__name__}, {step!r:.80}")

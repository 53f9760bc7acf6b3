"""Claims: a consumer in any language takes jobs, keeps its leases, and tells how each ended.

POST /claims          up to so many jobs; waits for one, if there are none
POST /claims/extend   their leases last longer; which are lost, which are to be cancelled
POST /claims/settle   ack, retry, dead, release or cancel each; which were lost
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Final, TypeAlias, TypedDict

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from headrace.context import headers_of
from headrace.keys import keys_of
from headrace.leasing import Ending, Leased, Lines, Poll, Ticket, Verb
from headrace.web.access import may_use
from headrace.web.answers import answer
from headrace.web.api.asked import read
from headrace.web.openapi import Endpoint
from headrace.web.problems import Refusal
from headrace.web.reader import Reader
from headrace.web.shapes import JobId, QueueName, in_one_line, whole

MAX_CLAIMED: Final = 100  # in one request
MAX_SETTLED: Final = 1_000
MAX_WAIT_S: Final = 60.0
MAX_LEASE_S: Final = 3_600.0
MAX_TEXT: Final = 16_000  # characters: more than a dead letter keeps

_Lease: TypeAlias = Annotated[
    float,
    Meta(ge=1, le=MAX_LEASE_S, description="Seconds that a claim lasts, unless it is extended."),
]


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """What a consumer asks for."""

    consumer: Annotated[
        str,
        Meta(
            pattern=r"^[!-9;-}]{1,64}$",
            description="The consumer's name: letters of ASCII, no white space, no `:` and no `~`.",
        ),
    ]
    queues: Annotated[
        list[QueueName],
        Meta(min_length=1, max_length=16, description="From these queues, in order."),
    ]
    count: Annotated[
        float, whole("At most so many, all of one queue.", 1, MAX_CLAIMED, checked=True)
    ] = 1
    wait: Annotated[
        float, Meta(ge=0, le=MAX_WAIT_S, description="Seconds to wait for a job, if there is none.")
    ] = 0
    lease: _Lease = 60

    def __post_init__(self) -> None:
        in_one_line(self.consumer)


class Claim(msgspec.Struct, forbid_unknown_fields=True):
    """A claim, as it was answered."""

    queue: QueueName
    id: JobId
    claim: Annotated[str, Meta(max_length=200, description="The claim token.")]

    def __post_init__(self) -> None:
        in_one_line(self.id)


class Extension(msgspec.Struct, forbid_unknown_fields=True):
    """Which leases are to last for how long."""

    claims: Annotated[list[Claim], Meta(min_length=1, max_length=MAX_SETTLED)]
    lease: _Lease = 60


class WhatWentWrong(msgspec.Struct, forbid_unknown_fields=True):
    """What went wrong: it stands in the dead letter."""

    type: Annotated[str, Meta(max_length=MAX_TEXT)] = ""
    message: Annotated[str, Meta(max_length=MAX_TEXT)] = ""
    traceback: Annotated[str, Meta(max_length=MAX_TEXT)] = ""


_ENDS: Final = (
    "ack: it is done. retry: it has failed, and is tried again, unless that was its last attempt. "
    "dead: it has failed for good. release: it goes back to the front, uncharged. cancel: it was to be "
    "cancelled, and is."
)


class Settlement(Claim, forbid_unknown_fields=True, kw_only=True):
    """How a claim ends."""

    end: Annotated[Verb, Meta(description=_ENDS)]
    result: Annotated[
        msgspec.Raw,
        Meta(description="For ack: what the task returns."),
    ] = msgspec.field(default_factory=partial(msgspec.Raw, b"null"))
    error: WhatWentWrong = msgspec.field(default_factory=WhatWentWrong)
    delay: (
        Annotated[float, Meta(ge=0, le=1e9, description="For retry: seconds until then.")] | None
    ) = None


class Settlements(msgspec.Struct, forbid_unknown_fields=True):
    """How claims end."""

    outcomes: Annotated[list[Settlement], Meta(min_length=1, max_length=MAX_SETTLED)]


class ClaimedView(TypedDict):
    """A job that the consumer has until its lease ends."""

    queue: str
    id: str
    claim: Annotated[str, Meta(description="The claim token: to extend and to settle it.")]
    lease_ends_at_ms: Annotated[int, Meta(description="By Redis' clock, ms since 1970.")]
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    headers: dict[str, str]
    attempt: Annotated[int, Meta(description="From 1.")]
    max_attempts: int
    delivery: Annotated[int, Meta(description="How often it has been back: a fencing number.")]
    timeout: Annotated[float | None, Meta(description="Seconds that it may run, if bounded.")]


class ClaimedList(TypedDict):
    """The jobs; none if there was none in time."""

    claims: list[ClaimedView]


class JobName(TypedDict):
    """Which job."""

    queue: str
    id: str


class Extended(TypedDict):
    """What extending has shown."""

    lost: Annotated[
        list[str],
        Meta(description="Ids of jobs that are not the consumer's any more: stop, settle nothing."),
    ]
    cancelled: Annotated[
        list[str],
        Meta(description="Ids of jobs that somebody wants cancelled: stop, settle with `cancel`."),
    ]


class Settled(TypedDict):
    """Which claims were lost: of those nothing has changed."""

    lost: Annotated[
        list[JobName],
        Meta(
            description="Another one has them, or had; or an earlier request, whose answer did not come, "
            "has settled them."
        ),
    ]


class _Call(msgspec.Struct):
    args: msgspec.Raw = msgspec.Raw(b"[]")
    kwargs: msgspec.Raw = msgspec.Raw(b"{}")


_read_call = msgspec.json.Decoder(_Call).decode
_WANTED: Final = msgspec.json.Decoder(Wanted)
_EXTENSION: Final = msgspec.json.Decoder(Extension)
_SETTLEMENTS: Final = msgspec.json.Decoder(Settlements)


class Claims:
    """The endpoints of claims.

    Args:
        reader: knows how queues are divided.
        lines: claim for consumers, and let them wait.
    """

    def __init__(self, reader: Reader, lines: Lines) -> None:
        self._reader = reader
        self._lines = lines
        self._leases = lines.leases

    def endpoints(self) -> list[Endpoint]:
        """Return what there is, in the order in which it is looked for."""
        errors = (400, 413, 415, 503)
        return [
            Endpoint(
                path="/claims", handle=self.claim, rights=("consume",), method="POST", body=Wanted,
                says="Claim jobs, and wait for one if there are none.",
                answers=(ClaimedList,), errors=errors,
            ),
            Endpoint(
                path="/claims/extend", handle=self.extend, rights=("consume",), method="POST", body=Extension,
                says="Let leases last longer; learn which are lost, and which are to be cancelled.",
                answers=(Extended,), errors=errors,
            ),
            Endpoint(
                path="/claims/settle", handle=self.settle, rights=("consume",), method="POST", body=Settlements,
                says="Tell how claims ended. Sent again, it changes nothing.",
                answers=(Settled,), errors=errors,
            ),
        ]  # fmt: skip

    async def claim(self, request: Request) -> Response:
        """Claim jobs."""
        wanted = await read(request, _WANTED, 'claim. Send {"consumer": "name", "queues": ["…"]}')
        may_use(request, *(keys_of(name).queue for name in wanted.queues))
        await self._reader.names()  # and how they are divided
        parts = [part for name in wanted.queues for part in self._reader.parts(name)]
        queues = [keys_of(part) for part in dict.fromkeys(parts)]
        poll = Poll(
            wanted.consumer, int(wanted.count), replace(self._lines.policy, lease_s=wanted.lease)
        )

        async def left() -> None:
            await request.receive()  # all of the body has come: what comes next is that it left

        try:
            jobs = await self._lines.claim(queues, poll, wanted.wait, left)
        except OverflowError as error:
            raise Refusal("busy", f"{error}: ask for fewer queues, or with wait=0") from None
        if jobs and poll.holder is not None and await request.is_disconnected():
            await self._leases.give_back(jobs, poll.holder)
        return answer(ClaimedList(claims=[_view(job) for job in jobs]))

    async def extend(self, request: Request) -> Response:
        """Let leases last longer."""
        asked = await read(
            request, _EXTENSION, 'extension. Send {"claims": [{"queue", "id", "claim"}]}'
        )
        may_use(request, *(one.queue for one in asked.claims))
        extended = await self._leases.extend([_ticket(one) for one in asked.claims], asked.lease)
        return answer(Extended(lost=extended.lost, cancelled=extended.cancelled))

    async def settle(self, request: Request) -> Response:
        """Tell how claims ended."""
        say = 'settlement. Send {"outcomes": [{"queue", "id", "claim", "end": "ack"}]}'
        told = await read(request, _SETTLEMENTS, say)
        may_use(request, *(one.queue for one in told.outcomes))
        lost = await self._leases.settle([_ending(one) for one in told.outcomes])
        return answer(Settled(lost=[JobName(queue=one.queue, id=one.job_id) for one in lost]))


def _ticket(claim: Claim) -> Ticket:
    return Ticket(keys_of(claim.queue).queue, claim.id, claim.claim)


def _ending(told: Settlement) -> Ending:
    error = (told.error.type, told.error.message, told.error.traceback)
    return Ending(_ticket(told), told.end, bytes(told.result), error, told.delay)


def _view(leased: Leased) -> ClaimedView:
    ticket, job = leased.ticket, leased.claimed
    assert job.context is not None
    assert job.decoded is not None
    assert job.task is not None
    call = _read_call(job.job)  # as they are written: JSON of another language keeps its numbers
    return {
        "queue": ticket.queue,
        "id": ticket.job_id,
        "claim": ticket.claim,
        "lease_ends_at_ms": leased.until_ms,
        "task": job.decoded.task,
        "args": call.args,  # type: ignore[typeddict-item]  # it is sent as it is
        "kwargs": call.kwargs,  # type: ignore[typeddict-item]
        "headers": headers_of(job.job),
        "attempt": job.context.attempt,
        "max_attempts": job.context.max_attempts,
        "delivery": job.head.delivery,
        "timeout": job.decoded.timeout or job.task.config.timeout_s,
    }

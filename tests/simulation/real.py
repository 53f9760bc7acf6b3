"""The simulated Redis whose scripts are the real ones: they run on a server, by the world's clock.

What blocks, who is connected, who leads and what goes wrong is simulated as before; all other commands go to
a private server, one after the other. It has no time of its own: where a script asks for it, it reads the
world's; and what it would publish it leaves in a list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis import Connection as RealConnection
from redis.exceptions import NoScriptError, ResponseError

from headrace.keys import DUE, LEADER, keys_of
from headrace.lanes.keys import lane_keys
from headrace.operations import request
from headrace.scripts import Script
from tests.property.model import ENDED, Lease
from tests.simulation.network import Command, Connection
from tests.simulation.queue import Queue
from tests.simulation.server import KNOWN, Blocked, Server
from tests.simulation.workflow_checker import WorkflowChecker
from tests.simulation.world import World

K = keys_of("queue")
LANES = lane_keys(K)
CLOCK = "simulated:clock"
PUBLISHED = "simulated:published"
OURS = ("SCRIPT", "CLIENT", "SUBSCRIBE", "PING", "TIME", "BLMOVE", "BLPOP")  # without the server
IN_OUR_TIME = (
    ("redis.call('TIME')", f"redis.call('HMGET', '{CLOCK}', 's', 'us')"),
    (f"redis.pcall('PUBLISH', '{DUE}'", f"redis.pcall('RPUSH', '{PUBLISHED}'"),
)
# So that hashes and sets are walked through in the order in which they were filled: as tables they would be
# in one that differs from server to server.
IN_ORDER = (
    *("--hash-max-listpack-entries", "100000", "--hash-max-listpack-value", "1000000"),
    *("--set-max-listpack-entries", "100000", "--set-max-listpack-value", "1000000"),
)
LOOK: tuple[Command, ...] = (
    ("LRANGE", K.pending, 0, -1),
    ("LRANGE", K.processing, 0, -1),
    ("LRANGE", K.dead, 0, -1),
    ("ZRANGE", K.delayed, 0, -1, "WITHSCORES"),
    ("ZRANGE", K.priority, 0, -1, "WITHSCORES"),
    ("HVALS", K.limited),
    ("HGETALL", K.claims),
    ("ZRANGE", K.leases, 0, -1, "WITHSCORES"),
    ("HGETALL", K.stats),
    ("HGET", K.meta, "paused"),
    ("LLEN", K.nudge),
    ("ZRANGE", LANES.slots, 0, -1),
    ("ZRANGE", LANES.admitted, 0, -1),
)


class Backend:
    """A real server, asked for many things at a time. One for all seeds of a process."""

    def __init__(self, port: int) -> None:
        self._connection: Any = RealConnection(port=port, protocol=2)  # type: ignore[no-untyped-call]
        self._loaded: dict[str, bytes] = {}  # by the text of a script: what the server calls it

    def ask(self, *commands: Command) -> list[Any]:
        """Return the answers of one round trip; errors among them."""
        self._connection.send_packed_command(self._connection.pack_commands(commands))
        return [self._answer() for _ in commands]

    def load(self, source: str) -> bytes:
        """Give a script to the server, in our time; return what it is called there."""
        if source not in self._loaded:
            text = source
            for theirs, ours in IN_OUR_TIME:
                text = text.replace(theirs, ours)
            assert "'TIME'" not in text
            (sha,) = self.ask(("SCRIPT", "LOAD", text))
            self._loaded[source] = sha
        return self._loaded[source]

    def _answer(self) -> Any:
        try:
            return self._connection.read_response()
        except ResponseError as error:
            return error


@dataclass
class RealQueue(Queue):
    """The one queue, as the server had it after the last command."""

    slots: list[bytes] = field(default_factory=list)
    admitted: list[bytes] = field(default_factory=list)

    def advance(self, ms: int) -> None:
        """Only the clock moves: what expires, expires on the server."""
        self.now += ms

    def read(self, answers: Sequence[Any]) -> None:
        """Take over what ``LOOK`` has given."""
        pending, processing, dead, delayed, priority, self.limited, *rest = answers
        claims, leases, stats, paused, self.nudges, self.slots, self.admitted = rest
        # Redis has on the right what goes next.
        self.pending, self.processing, self.dead = pending[::-1], processing[::-1], dead[::-1]
        self.delayed, self.priority = _scores(delayed), _scores(priority)
        deadlines, owners = _scores(leases), _pairs(claims)
        self.leases = {}
        for name, at in deadlines.items():
            owner, _, job = owners.get(name, b"? ").partition(b" ")
            self.leases[name.decode()] = Lease(owner.decode(), job, at or ENDED)
        self.stats = Counter({name.decode(): int(n) for name, n in _pairs(stats).items()})
        self.paused = paused is not None


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _scores(flat: Sequence[bytes]) -> dict[bytes, int]:
    return {member: int(float(score)) for member, score in _pairs(flat).items()}


class RealServer(Server):
    """One Redis, with one queue that is looked at."""

    backend: Backend
    checker: WorkflowChecker
    queue_class = RealQueue

    def __init__(self, world: World, checker: WorkflowChecker) -> None:
        super().__init__(world, checker)
        script: Callable[[str], Script] = vars(request)["script"]  # where bugs are put in
        self._known = {script(name).sha: script(name) for name in KNOWN}
        self.backend.ask(("FLUSHALL",))
        checker.ask = self.ask

    def ask(self, command: Command) -> Any:
        """Let the server carry out a command, at this instant; see what there is then, and hand on what it has said.

        Raises:
            ResponseError: that is what it answered.
        """
        now = self.clock_ms()
        clock = ("HSET", CLOCK, "s", now // 1000, "us", now % 1000 * 1000)
        rest = (("LPOP", PUBLISHED, 1_000), *LOOK)
        _, answer, published, *seen = self.backend.ask(clock, command, *rest)
        queue = self.queue(K.pending)
        queue.read(seen)
        self.checker.notice(queue)
        for message in published or ():
            self._publish(message)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def queue(self, key: str) -> RealQueue:
        """Return the queue, whatever the key: no other is looked at."""
        queue = super().queue(K.pending)
        assert isinstance(queue, RealQueue)
        return queue

    def _run(self, connection: Connection, client_id: int, command: Command) -> Any:
        if command[0] == "EVALSHA" or command[0] in OURS or command[1] == LEADER:
            return super()._run(connection, client_id, command)
        answer = self.ask(command)
        self.checker.glance(self.queue(K.pending))
        return answer

    def _do_script(self, _: Connection, __: int, ___: str, source: str) -> Any:
        sha = next(sha for sha, known in self._known.items() if known.source == source)
        self.known_scripts.add(sha)
        return sha.encode()

    def _script(self, connection: Connection, client_id: int, command: Command) -> Any:
        sha, count = command[1], int(command[2])
        if sha not in self.known_scripts:
            return NoScriptError("No matching script. Please use EVAL.")
        name, source, args = self._known[sha].name, self._known[sha].source, command[3 + count :]
        if name == "lead":
            return self._lead(*args)
        if self.is_full and "allow-oom" not in source.partition("\n")[0]:
            raise ResponseError("OOM command not allowed when used memory > 'maxmemory'.")
        queue = self.queue(K.pending)
        before = self.checker.before(name, queue)
        reply = self.ask(("EVALSHA", self.backend.load(source), *command[2:]))
        if name == "claim" and (not connection.is_open or connection.client_id != client_id):
            self.checker.claimed_too_late(args, reply)
        self.checker.after(name, queue, before, args, reply, connection.node)
        return reply

    def _get(self, waiting: Blocked) -> Any:
        queue = self.queue(K.pending)
        if waiting.verb == "BLMOVE" and K.pending in waiting.queues and queue.pending:
            job = self.ask(("LMOVE", K.pending, K.processing, "RIGHT", "LEFT"))
            self.checker.moved(queue, job, waiting.connection.node)
            return job
        if waiting.verb == "BLPOP" and K.nudge in waiting.queues and queue.nudges:
            return [K.nudge.encode(), self.ask(("LPOP", K.nudge))]
        return None

    # — bad days —

    def save(self) -> Any:
        """Keep everything, as the file on a disk has it."""
        (keys,) = self.backend.ask(("KEYS", "*"))
        asked = [(verb, key) for key in keys for verb in ("PTTL", "DUMP")]
        found = self.backend.ask(*asked) if keys else []
        return super().save(), list(zip(keys, found[::2], found[1::2], strict=True))

    def restore(self, saved: Any) -> None:
        """Be as at that instant."""
        state, kept = saved
        super().restore(state)
        back = [("RESTORE", key, max(0, ttl_ms), dump) for key, ttl_ms, dump in kept]
        answers = self.backend.ask(("FLUSHALL",), *back)
        assert set(answers) == {b"OK"}, answers
        self.ask(("EXISTS", K.pending))

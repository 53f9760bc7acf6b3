"""The simulated Redis: one command at a time, blocked clients, scripts it may not know, bad days."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from redis.exceptions import BusyLoadingError, NoScriptError, ReadOnlyError, ResponseError

from headrace import scripts
from headrace.keys import DUE
from tests.simulation.checker import Checker
from tests.simulation.faults import Faults
from tests.simulation.network import Command, Connection
from tests.simulation.queue import Queue
from tests.simulation.world import EPOCH_MS, World

BLOCKED = object()
UNBLOCKED = "UNBLOCKED force unblock from blocking operation, instance state changed"


@dataclass
class Blocked:
    """A client that waits: for a job of a queue, or for a nudge of one of several.

    ``rest``: what it has asked beyond that, to be carried out afterwards.
    """

    connection: Connection
    client_id: int
    verb: str
    queues: list[str]
    until: float
    rest: Sequence[Command] = ()


class Server:
    """One Redis, with as many queues as are asked for."""

    faults: Faults
    queue_class: type[Queue] = Queue

    def __init__(self, world: World, checker: Checker) -> None:
        self.world = world
        self.checker = checker
        self.queues: dict[str, Queue] = {}
        self.sets: dict[str, set[str]] = {}
        self.leader: tuple[str, int] = ("", 0)  # until, ms
        self.consumers: dict[str, int] = {}  # since when each is missing, ms
        self.clients: dict[int, Connection] = {}
        self.blocked: list[Blocked] = []
        self.subscribed: dict[int, Connection] = {}  # to when jobs are due
        self.known_scripts: set[str] = set()
        self.jumped_ms = 0
        self.is_away = self.is_loading = self.is_replica = self.is_full = False
        self.stalled_until = 0.0
        self._next_client = 0

    def clock_ms(self) -> int:
        return EPOCH_MS + int(self.world.now * 1000) + self.jumped_ms

    def queue(self, key: str) -> Queue:
        """Give the queue that a key belongs to, at the present time."""
        name = key.partition(":")[0]
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = self.queue_class(now=self.clock_ms())
        passed = self.clock_ms() - queue.now
        if passed:
            queue.advance(passed)
        return queue

    # — clients —

    def connected(self, connection: Connection) -> int:
        self._next_client += 1
        self.clients[self._next_client] = connection
        return self._next_client

    def closed(self, _connection: Connection, client_id: int) -> None:
        self.clients.pop(client_id, None)
        self.subscribed.pop(client_id, None)
        self.blocked = [waiting for waiting in self.blocked if waiting.client_id != client_id]

    def receive(self, connection: Connection, client_id: int, commands: Sequence[Command]) -> None:
        """Carry out what has arrived, and answer."""
        if client_id not in self.clients:
            return
        if self.stalled_until > self.world.now:
            self.world.at(self.stalled_until, self.receive, connection, client_id, commands)
            return
        cut = self.faults.of_batch(connection, commands)
        commands = commands[: cut or None]
        replies = []
        for i, command in enumerate(commands):
            reply = self._carry_out(connection, client_id, command)
            if isinstance(reply, Exception):
                self.world.note(connection.node.name, "is refused", str(reply))
            if reply is BLOCKED:
                self.blocked[-1].rest = commands[i + 1 :]
                break
            replies.append(reply)
        if cut:
            self.closed(connection, client_id)
            connection.reset()
        elif replies:
            connection.reply(client_id, replies)
        self._serve()

    def _carry_out(self, connection: Connection, client_id: int, command: Command) -> Any:
        verb = str(command[0])
        self.checker.clock_ms = max(self.checker.clock_ms, self.clock_ms())
        self.world.note(connection.node.name, "asks", command)
        if self.is_loading and verb != "CLIENT":
            return BusyLoadingError("Redis is loading the dataset in memory")
        if self.is_replica and verb not in ("CLIENT", "SCRIPT"):
            return ReadOnlyError("You can't write against a read only replica.")
        try:
            return self._run(connection, client_id, command)
        except ResponseError as error:
            return error

    def _run(self, connection: Connection, client_id: int, command: Command) -> Any:
        if command[0] == "EVALSHA":
            return self._script(connection, client_id, command)
        run: Callable[..., Any] = getattr(self, f"_do_{str(command[0]).lower()}")
        return run(connection, client_id, *command[1:])

    # — scripts —

    def _script(self, connection: Connection, client_id: int, command: Command) -> Any:
        sha, count = command[1], int(command[2])
        if sha not in self.known_scripts:
            return NoScriptError("No matching script. Please use EVAL.")
        name, keys, args = _NAMES[sha], command[3 : 3 + count], command[3 + count :]
        if name == "lead":
            return self._lead(*args)
        if name == "register":
            return self._do_sadd(connection, 0, keys[0], *args)
        if name == "note_consumers":
            return self._note_consumers(*args)
        if name.startswith("timings/"):  # statistics, on which nothing depends
            return b"ok" if name == "timings/tell" else (len(args) - 4) // 2
        if name in ("enqueue", "push") and self.is_full:
            raise ResponseError("OOM command not allowed when used memory > 'maxmemory'.")
        queue = self.queue(keys[0])
        before, first = self.checker.before(name, queue), queue.first_due
        reply = getattr(queue, f"run_{name}")(*args)
        if queue.first_due < first:
            self._publish(f"{keys[0]} {queue.due_ms()}".encode())
        if name == "claim" and (not connection.is_open or connection.client_id != client_id):
            self.checker.claimed_too_late(args, reply)
        self.checker.after(name, queue, before, args, reply, connection.node)
        return reply

    def _publish(self, message: bytes) -> None:
        for client_id, connection in list(self.subscribed.items()):
            connection.reply(client_id, [[b"message", DUE.encode(), message]], fated=False)

    def name_of(self, command: Command) -> str:
        return _NAMES[command[1]]

    def _lead(self, who: str, lease_ms: int) -> bytes:
        leader, until = self.leader
        if leader and until > self.clock_ms() and leader != who:
            return leader.encode()
        self.leader = (who, self.clock_ms() + lease_ms) if lease_ms else ("", 0)
        return who.encode() if lease_ms else b""

    def _note_consumers(self, came: int, *names: str) -> None:
        now = self.clock_ms()
        self.consumers |= {name: 0 if i < came else now for i, name in enumerate(names)}

    # — commands —

    def _do_script(self, _: Connection, __: int, ___: str, source: str) -> Any:
        sha = _SHAS[source]
        self.known_scripts.add(sha)
        return sha.encode()

    def _do_client(self, connection: Connection, client_id: int, what: str, *args: Any) -> Any:
        if what == "ID":
            return client_id
        if what == "LIST":
            normal = ((i, c) for i, c in self.clients.items() if i not in self.subscribed)
            lines = (f"id={i} addr=- name={c.name} age=0\n" for i, c in normal)
            return "".join(lines).encode()
        if what == "UNBLOCK":
            return int(self._unblock(int(args[0]), None))
        assert what == "KILL", what
        other = self.clients.get(int(args[1]))
        if other is not None:
            self.closed(other, int(args[1]))
            other.reset()
        return int(other is not None)

    def _do_subscribe(self, connection: Connection, client_id: int, channel: str) -> Any:
        assert channel == DUE
        self.subscribed[client_id] = connection
        return [b"subscribe", DUE.encode(), 1]

    def _do_ping(self, *_: Any) -> Any:
        return [b"pong", b""]

    def _do_sadd(self, _: Connection, __: int, key: str, *members: str) -> Any:
        self.sets.setdefault(key, set()).update(members)
        return len(members)

    def _do_hdel(self, _: Connection, __: int, ___: str, name: str) -> Any:
        if name == "unused":  # the one field of a queue's meta that is deleted by its own command
            return 0
        return int(self.consumers.pop(name, None) is not None)

    def _do_hgetall(self, *_: Any) -> Any:
        pairs = sorted(self.consumers.items())
        return [part for name, at in pairs for part in (name.encode(), b"%d" % at)]

    def _do_time(self, *_: Any) -> Any:
        now = self.clock_ms()
        return [b"%d" % (now // 1000), b"%d" % (now % 1000 * 1000)]

    def _do_scard(self, _: Connection, __: int, key: str) -> int:
        return len(self.sets.get(key, ()))

    def _do_smembers(self, _: Connection, __: int, key: str) -> Any:
        return [member.encode() for member in sorted(self.sets.get(key, ()))]

    def _do_hscan(self, _: Connection, __: int, key: str, *___: Any) -> Any:
        flat: list[bytes] = []
        for name, lease in self.queue(key).leases.items():
            flat += (name.encode(), lease.owner.encode() + b" " + lease.job)
        return [b"0", flat]

    def _do_lrange(self, _: Connection, __: int, key: str, start: int, stop: int) -> Any:
        items = self._list(key)[::-1]  # Redis' left is the model's end
        stop = len(items) + stop if stop < 0 else stop
        return items[start if start >= 0 else max(0, len(items) + start) : stop + 1]

    def _list(self, key: str) -> list[bytes]:
        queue, place = self.queue(key), key.partition(":")[2]
        return {"": queue.pending, "processing": queue.processing, "dlq": queue.dead}[place]

    def _do_exists(self, _: Connection, __: int, *keys: str) -> int:
        for name in dict.fromkeys(key.rpartition(":")[0] for key in keys):
            self.checker.glance(self.queue(name))
        return sum(bool(getattr(self.queue(key), key.rpartition(":")[2])) for key in keys)

    def _do_hget(self, _: Connection, __: int, key: str, field: str) -> Any:
        assert field == "paused", field
        return b"1" if self.queue(key).paused else None

    def _do_getex(self, _: Connection, __: int, ___: str, ____: str, lease_ms: int) -> Any:
        leader, until = self.leader
        if not leader or until <= self.clock_ms():
            return None
        self.leader = (leader, self.clock_ms() + lease_ms)
        return leader.encode()

    def _do_get(self, *_: Any) -> Any:
        leader, until = self.leader
        return leader.encode() if leader and until > self.clock_ms() else None

    def _do_pttl(self, *_: Any) -> int:
        leader, until = self.leader
        return until - self.clock_ms() if leader and until > self.clock_ms() else -2

    def _do_lpush(self, _: Connection, __: int, key: str, *jobs: bytes) -> Any:
        queue = self.queue(key)
        for job in jobs:
            queue.push(job)
        self.checker.pushed(queue, len(jobs))
        return len(queue.pending)

    def _do_lrem(self, connection: Connection, _: int, key: str, __: int, job: bytes) -> Any:
        queue = self.queue(key)
        removed = queue.remove(job)
        self.checker.removed(queue, int(removed))
        return int(removed)

    def _do_blmove(self, connection: Connection, client_id: int, *args: Any) -> Any:
        if self.is_full:
            raise ResponseError("OOM command not allowed when used memory > 'maxmemory'.")
        return self._block(connection, client_id, "BLMOVE", [args[0]], float(args[-1]))

    def _do_blpop(self, connection: Connection, client_id: int, *args: Any) -> Any:
        return self._block(connection, client_id, "BLPOP", list(args[:-1]), float(args[-1]))

    # — blocking —

    def _block(
        self, connection: Connection, client_id: int, verb: str, keys: list[str], wait_s: float
    ) -> Any:
        waiting = Blocked(connection, client_id, verb, keys, self.world.now + wait_s)
        got = self._get(waiting)
        if got is not None:
            return got
        self.blocked.append(waiting)
        self.world.later(wait_s, self._time_is_over, waiting)
        return BLOCKED

    def _get(self, waiting: Blocked) -> Any:
        for key in waiting.queues:
            queue = self.queue(key)
            if waiting.verb == "BLMOVE" and (job := queue.move()) is not None:
                self.checker.moved(queue, job, waiting.connection.node)
                return job
            if waiting.verb == "BLPOP" and queue.nudges:
                queue.nudges -= 1
                return [key.encode(), b""]
        return None

    def _serve(self) -> None:
        """Give what has come to those who wait for it, the longest first."""
        for waiting in list(self.blocked):
            got = self._get(waiting)
            if got is not None:
                self.blocked.remove(waiting)
                self.world.note(waiting.connection.node.name, "gets", got)
                self._answer(waiting, got)

    def _time_is_over(self, waiting: Blocked) -> None:
        if waiting in self.blocked:
            self.blocked.remove(waiting)
            self._answer(waiting, None)

    def _answer(self, waiting: Blocked, reply: Any) -> None:
        connection, client_id = waiting.connection, waiting.client_id
        rest = [self._carry_out(connection, client_id, command) for command in waiting.rest]
        connection.reply(client_id, [reply, *rest])

    def _unblock(self, client_id: int, reply: Any) -> bool:
        for waiting in self.blocked:
            if waiting.client_id == client_id:
                self.blocked.remove(waiting)
                self._answer(waiting, reply)
                return True
        return False

    def next_end(self) -> float:
        """Tell when the first of those who wait for a job will have waited in vain."""
        ends = (waiting.until for waiting in self.blocked if waiting.verb == "BLMOVE")
        return min(ends, default=self.world.now)

    # — bad days —

    def cut_all(self) -> None:
        """Close every connection, as a server that dies does."""
        self.blocked.clear()
        for client_id, connection in list(self.clients.items()):
            self.closed(connection, client_id)
            connection.reset()

    def demote(self) -> None:
        """Become a replica: blocked clients are told, and let go."""
        self.is_replica = True
        for waiting in list(self.blocked):
            error = ResponseError(f"{UNBLOCKED} (master -> replica?)")
            waiting.connection.reply(waiting.client_id, [error], fated=False)
        self.blocked.clear()

    def save(self) -> Any:
        state = (self.queues, self.sets, self.leader, self.consumers)
        return deepcopy(state), self.checker.save()

    def restore(self, saved: Any) -> None:
        state, checked = saved
        self.queues, self.sets, self.leader, self.consumers = deepcopy(state)
        self.known_scripts.clear()
        self.checker.restore(checked)


_PACKAGE = Path(str(files("headrace")))
KNOWN = [
    str(path.relative_to(_PACKAGE).with_suffix("")).removeprefix("scripts/")
    for path in sorted(_PACKAGE.rglob("*.lua"))
    if path.parent.name != "lib"
]
_NAMES = {scripts.script(name).sha: name for name in KNOWN}
_SHAS = {scripts.script(name).source: scripts.script(name).sha for name in KNOWN}


def spelled(command: Any) -> str:
    """Spell a command, or what it gave, for a trace."""
    if not isinstance(command, tuple | list):
        return str(_cut(command))
    if command[0] == "EVALSHA":
        count = int(command[2])
        command = (_NAMES.get(command[1], command[1]), *command[3 + count :])
    elif command[0] == "SCRIPT":
        command = ("SCRIPT", "LOAD")
    if command[0] in ("SADD", "register"):  # in the order of a set
        command = (command[0], *sorted(command[1:]))
    return " ".join(str(_cut(part)) for part in command)


def _cut(value: Any) -> Any:
    return value[:90] if isinstance(value, bytes | str) else value

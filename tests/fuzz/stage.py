"""A queue with something in every place, taken down and set up again between the calls of a fuzzer."""

from __future__ import annotations

from typing import Any, Final

from redis.exceptions import ResponseError

from headrace import operations as op
from headrace import wire
from headrace.doctor import fit, permissions
from headrace.forgetting import forgetting
from headrace.keys import LEADER
from headrace.operations import Operation
from headrace.scripts import Script
from tests.integration.transitions.driver import Driver, id_of, job
from tests.support.invariants import check, read

DAY_MS: Final = 86_400_000

_DUMP: Final = """
local seen = redis.call('KEYS', '*')
table.sort(seen)
local all = {}
for _, key in ipairs(seen) do
  all[#all + 1] = key
  all[#all + 1] = redis.call('DUMP', key)
  all[#all + 1] = redis.call('PEXPIRETIME', key)
end
return all
"""

State = list[tuple[bytes, bytes, int]]


class Stage:
    """One queue, as it is before each call."""

    def __init__(self, queue: Driver) -> None:
        self.queue, self.k, self.redis = queue, queue.k, queue.redis
        self._set_up()
        self.state = self._saved = self.look()
        self._touched = False
        self._loaded: set[str] = set()
        found = read(self.redis)
        self.foreign = found.foreign
        self.bare = len(found.processing) - len(found.claims)
        self.twins = {
            parts[0].id
            for jobs in found.places.values()
            for one in jobs
            if (parts := wire.split(one)) is not None
        }

    def _set_up(self) -> None:
        queue = self.queue
        self.mine, self.late, self.ending, self.dying = (job(i) for i in ("m", "l", "e", "d"))
        queue.hold(self.mine, self.ending, job("high", priority=3), lease_ms=DAY_MS)
        queue.hold(self.dying, lease_ms=DAY_MS)
        self.letter = wire.letter(wire.Head("d"), b',"task":"t"}', wire.Error("rejected"))
        queue.settle(self.dying, "dead", job=self.letter)
        queue.hold(self.late, lease_ms=0)
        queue.cancel(self.ending)
        queue.move_bare(b"swept", b"swept", b'{"id":"foreign","task":"t"}')
        queue.sweep(bare_lease_ms=DAY_MS)
        self.moved, self.unadopted = queue.move_bare(b'{"task":"t"}', job("u"))
        self.waiting = [job(f"w{n}") for n in range(20)]
        queue.enqueue(*self.waiting)
        queue.enqueue(job("p", priority=5), job("n", priority=-5))
        self.delayed = job("later")
        queue.enqueue(self.delayed, due=f"+{DAY_MS}")
        due = [job(f"due{n}") for n in range(20)]
        queue.enqueue(*due, due="+1")
        queue.push(b'{"task":"bare"}')
        queue.reclaim(grace_ms=0, max_crashes=0, limit=0)  # the sweep has been there
        queue.redis.rpush(self.k.result("m"), "old")
        queue.redis.set(self.k.unique("taken"), "w0", px=DAY_MS)
        queue.until(queue.now_ms() + 2)

    def look(self) -> State:
        """Give all that Redis holds, to the byte."""
        found: Any = self.redis.eval(_DUMP, 0)
        return list(zip(found[::3], found[1::3], found[2::3], strict=True))

    def reset(self) -> None:
        """Put everything back as it was."""
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.flushdb()
            for key, dump, expires_at in self.state:
                pipe.restore(key, max(0, expires_at), dump, absttl=expires_at > 0)
            pipe.execute()
        self._touched = False

    def operations(self) -> list[Operation[Any]]:
        """Give calls as the product makes them, at least one of each script."""
        k, number = self.k, self.queue.numbers
        mine, ending = (id_of(one) for one in (self.mine, self.ending))
        outcomes = [
            op.Outcome(mine, number[mine], "done", result_ttl_ms=DAY_MS, result=b"{}"),
            op.Outcome(
                "high", number["high"], "retry", delay_ms=DAY_MS, job=job("high", attempt=1)
            ),
            op.Outcome(ending, number[ending], "dead", job=self.letter),
        ]
        release = [op.Outcome("high", -number["high"], "release"), outcomes[0]]
        new = [job("x"), job("y", priority=1)]
        unique = op.Unique("free", "x", DAY_MS)
        adopted = job("b", delivery=1)
        return [
            op.push(k, [job("x"), job("z")]),
            op.enqueue(k, new, max_pending=1_000),
            op.enqueue(k, new, due=f"+{DAY_MS}"),
            op.enqueue(k, new[:1], unique=unique),
            op.claim(k, 30, lease_ms=DAY_MS, consumer="me", first=100),
            op.adopt(
                k,
                token="me:200",
                lease_ms=DAY_MS,
                moved=self.moved,
                job_id="b",
                job=adopted,
                begun=False,
            ),
            op.adopt(
                k,
                token="me:201",
                lease_ms=DAY_MS,
                moved=self.unadopted,
                job_id="u",
                job=self.unadopted,
                begun=True,
            ),
            op.settle(k, "me", outcomes),
            op.settle(k, "me", release),
            op.extend(k, "me", [(mine, number[mine]), ("high", number["high"])], lease_ms=DAY_MS),
            op.promote(k, 30),
            op.reclaim(k, grace_ms=0, gap_ms=DAY_MS, max_crashes=5),
            op.sweep(k, bare_lease_ms=DAY_MS, only_if_unequal=False),
            op.lead("me", DAY_MS),
            op.snapshot(k),
            op.pause(k, paused=True),
            op.redrive(k, [(self.letter, wire.redriven(self.letter))]),
            op.purge(k, [self.letter]),
            op.cancel(k, "w1", self.waiting[1], result_ttl_ms=DAY_MS, result=b"{}"),
            op.cancel(k, mine, b""),
            op.find(k, "w1", self.waiting[1]),
            op.seek(k.pending, "w1", 0),
            fit.stretch(k, mend=True, limit=100, lease_ms=DAY_MS),
            permissions.permitted([("LPUSH", "queue", "x"), ("GET", "queue")], ["queue"]),
            op.register("queue"),
            op.note_consumers(["me"], ["other"]),
            forgetting.ask(k, DAY_MS),
        ]

    def call(self, operation: Operation[Any], keys: list[bytes], args: list[bytes]) -> str:
        """Run a script on the queue as it was set up; say what is wrong with what it did, or ''."""
        assert operation.script is not None
        if self._touched:
            self.reset()
        try:
            answer = self._eval(operation.script, keys, args)
        except ResponseError as error:
            self._touched = self.look() != self.state
            return f"it failed ({error}), and had written before" if self._touched else ""
        self._touched = True
        try:
            operation.parse(answer)
        except UnicodeDecodeError:  # an id or a name that it was given, and gave back
            pass
        except Exception as error:
            return f"it answered {answer!r:.200}, which is not in its header: {error!r}"
        return self.fault()

    def failing(self, operation: Operation[Any], keys: list[bytes], args: list[bytes]) -> str:
        """Do as ``call``, but look at failures alone: an answer says nothing of a foreign key."""
        fault = self.call(operation, keys, args)
        return fault if fault.startswith("it failed") else ""

    def disturb(self, key: str, kind: str) -> None:
        """Make a key of a wrong type, beside the queue's own; part of the state until ``reset``."""
        self.reset()
        write = {"string": "SET", "list": "RPUSH", "zset": "ZADD", "hash": "HSET"}[kind]
        value = {"string": ["x"], "list": ["x"], "zset": ["1", "x"], "hash": ["x", "y"]}[kind]
        self.redis.execute_command(write, key, *value)  # type: ignore[no-untyped-call]
        self.state, self._saved = self.look(), self.state

    def calm(self) -> None:
        """Forget what ``disturb`` made."""
        self.state = self._saved
        self.reset()

    def _eval(self, script: Script, keys: list[bytes], args: list[bytes]) -> Any:
        if script.sha not in self._loaded:
            self.redis.script_load(script.source)
            self._loaded.add(script.sha)
        return self.redis.evalsha(script.sha, len(keys), *keys, *args)

    def fault(self) -> str:
        """Say which invariant does not hold, or ''."""
        try:
            state = read(self.redis)
        except UnicodeDecodeError:  # a consumer's name is opaque to Redis, and text to this reader
            return ""
        if self.redis.pttl(LEADER) == -1:
            return "the leader never expires"
        bare = max(0, len(state.processing) - len(state.claims))
        try:
            check(self.redis, foreign=self.foreign, bare=bare, twins=self.twins)
        except AssertionError as error:
            return str(error)[:300]
        return ""

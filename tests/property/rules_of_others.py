"""What all but consumers do to a queue: producers, plain clients, the leader, time, operators, failovers."""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import rule

from headrace import operations as op
from headrace import unique, wire
from headrace.producer import Call
from tests.property.commands import AGE_SCRIPT, DUMP_SCRIPT, RESTORE_SCRIPT, plain, raw
from tests.property.examples import (
    BARE_LEASE,
    GRACE,
    HOUR,
    JOBS,
    MAX_CRASHES,
    NAMES,
    OPERATIONS,
    K,
    delays,
    foreign,
    indexes,
    jobs,
    pick,
    split,
)
from tests.property.machine import Machine, Savepoint, when
from tests.property.model import KEY_TTL, id_of

FORGOTTEN = rb'"failed_at":0,"consumer":"\1"}}'


class RulesOfOthers(Machine):
    """Each rule runs on Redis and on the model, and compares the answers."""

    # Producers.

    @rule(jobs=st.lists(jobs, min_size=1, max_size=3), delay=delays)
    def enqueue(self, jobs: list[bytes], delay: int) -> None:
        plain = not delay and not any(b'"priority"' in job for job in jobs)
        request = op.push(K, jobs) if plain else op.enqueue(K, jobs, due=f"+{delay}")
        self.both(request, op.Enqueued(self.model.enqueue(jobs, delay)))

    @rule(
        job=jobs,
        how=st.sampled_from(["k1", "k1", "k2", "full", "instant"]),
        number=st.integers(-1, 3),
    )
    def enqueue_with_an_option(self, job: bytes, how: str, number: int) -> None:
        model = self.model
        if how == "instant":
            due = f"@{self.started_at + number * HOUR}"
            answer = op.Enqueued(model.enqueue([job], number * HOUR))
            self.both(op.enqueue(K, [job], due=due), answer)
        elif how == "full":
            waiting = len(model.pending) + len(model.priority) + len(model.delayed)
            word = model.enqueue([job], 0, bound=number + 2)
            answer = op.Enqueued(word, waiting=waiting if word == "full" else 0)
            self.both(op.enqueue(K, [job], max_pending=number + 2), answer)
        else:
            # The key of a job that names it goes with the job, another one is held for a time.
            head, body = split(job)
            job, ttl = (
                (job, KEY_TTL) if number == 3 else (wire.join(head._replace(key=how), body), 0)
            )
            due, delay = ("+0", 0) if number < 2 else (f"+{HOUR}", HOUR)
            operation = op.enqueue(K, [job], due=due, unique=op.Unique(how, head.id, ttl))
            existing = model.unique.get(how, "")
            word = model.enqueue([job], delay, key=how, ttl=ttl)
            self.both(operation, op.Enqueued(word, existing))
            self.repeat(  # I5: with a key it may be sent twice
                operation,
                lambda: op.Enqueued(
                    model.enqueue([job], delay, key=how, ttl=ttl), model.unique[how]
                ),
            )

    @rule(
        job=jobs,
        key=st.sampled_from(["k1", "k1", "k2"]),
        mode=st.sampled_from(["replace", "debounce"]),
        delay=delays,
    )
    def come_in_under_a_key(self, job: bytes, key: str, mode: str, delay: int) -> None:
        """Replace the job that has the key, or put it off. Of two of one id any may be meant."""
        if self.model.copies(self.model.unique.get(key, "")) > 1:
            return
        head, body = split(job)
        job_id = self.fresh_id()
        job = wire.join(head._replace(id=job_id, key=key), body)
        call = Call[None](K.queue, job_id, job, f"+{delay}", key=key, if_exists=mode)
        answers = [self.store.run(unique.replace(K, call, 0))]
        (answer,) = self.store.follow(unique.looked(answers, ()))
        assert answer == op.Enqueued(*self.model.replace(job, key, mode, delay))

    # Plain clients.

    @rule(job=foreign)
    def push_as_a_plain_client(self, job: bytes) -> None:
        self.store.run(plain("LPUSH", K.pending, job))
        self.model.push(job)

    @when("pending")
    @rule()
    def move_as_a_plain_client(self) -> None:
        expected = self.model.move()
        self.plain.append(self.both(plain("RPOPLPUSH", K.pending, K.processing), expected))

    @when("plain", "processing")
    @rule(index=indexes)
    def remove_as_a_plain_client(self, index: int) -> None:
        """Mostly what the plain client moved; sometimes what is not its own."""
        job = pick(self.plain + self.model.processing, index)
        if job in self.plain:
            self.plain.remove(job)
        self.both(plain("LREM", K.processing, 1, job), int(self.model.remove(job)))

    # The leader.

    @when("delayed")
    @rule(limit=st.sampled_from([1, 2, 1_000]))
    def promote(self, limit: int) -> None:
        due = [at for at in self.model.delayed.values() if at <= self.model.now]
        answer = self.store.run(op.promote(K, limit))
        assert answer.moved == self.model.promote(limit) == min(limit, len(due)), (
            "I8: due, not more"
        )
        if answer.moved < limit:
            self.redis_is_as_the_model_says()
            assert self.store.run(op.promote(K, limit)).moved == 0, "I5: promote twice"

    @when("processing")
    @rule(everything=st.booleans(), offset=st.sampled_from([0, 0, 0, 1]))
    def sweep(self, everything: bool, offset: int) -> None:
        model = self.model
        operation = op.sweep(
            K, bare_lease_ms=BARE_LEASE, offset=offset, only_if_unequal=not everything
        )
        given = model.sweep(BARE_LEASE, offset, only_if_unequal=not everything)
        self.both(operation, op.Swept(given, 0))
        self.both(operation, op.Swept(0, 0))  # I5
        if everything and offset == 0:
            leased = all(
                model.leased(job) >= model.processing.count(job) for job in model.processing
            )
            assert leased, "I2: an item without a lease after a sweep"

    @when("leases")
    @rule(
        limit=st.sampled_from([1, 2, 100]),
        grace=st.sampled_from([0, 0, GRACE]),
        gap=st.booleans(),
        rested=st.sampled_from([None, None, 0, 2, 3]),
    )
    def reclaim(self, limit: int, grace: int, gap: bool, rested: int | None = None) -> None:
        """Rested: so many hours ago nothing was leased here, as whoever sweeps says."""
        gap_ms = 5 * HOUR // 2 if gap else 1_000 * HOUR
        rested_ms = 0
        if rested is not None:
            rested_ms = int(self.store.run(op.time_ms())) - rested * HOUR
            rested = self.model.now - rested * HOUR
        operation = op.reclaim(
            K,
            grace_ms=grace,
            gap_ms=gap_ms,
            max_crashes=MAX_CRASHES,
            rested_ms=rested_ms,
            limit=limit,
        )
        live = {n for n, lease in self.model.leases.items() if lease.deadline > self.model.now}
        letters = len(self.model.dead)
        expected = self.model.reclaim(limit, grace, gap_ms, MAX_CRASHES, rested)
        answer = self.store.run(operation)
        assert replace(answer, quiet_ms=round(answer.quiet_ms / HOUR) * HOUR) == expected
        assert {n for n in live if n[0] != "~"} <= set(self.model.leases), "a lease ended early"
        assert len(self.model.dead) - letters == answer.died, "I7: a death has a letter"
        self.forget_when_it_failed(answer.died)
        if not answer.quiet_ms and limit == 100:
            self.redis_is_as_the_model_says()
            self.both(operation, op.Reclaimed())  # I5

    def forget_when_it_failed(self, letters: int) -> None:
        """The model does not know Redis' clock: take the instant out of the latest letters."""
        for index in range(letters):
            letter = self.store.run(plain("LINDEX", K.dead, index))
            assert letter is not None, "I7: a death has a letter"
            letter = re.sub(rb'"failed_at":\d{13},"consumer":"([AB-])"}}$', FORGOTTEN, letter)
            self.store.run(plain("LSET", K.dead, index, letter))

    # Time.

    @rule(hours=st.sampled_from([1, 2, 4]))
    def time_passes(self, hours: int) -> None:
        self.model.advance(hours * HOUR)
        self.store.run(raw(AGE_SCRIPT, (K.pending,), hours * HOUR))

    # Operators, and what happens to Redis.

    @when("dead")
    @rule(index=indexes, count=st.integers(0, 2))
    def redrive(self, index: int, count: int) -> None:
        """By script, or by hand: LMOVE queue:dlq queue LEFT RIGHT."""
        if count == 0:
            letter = self.model.dead.pop()
            self.both(plain("LMOVE", K.dead, K.pending, "LEFT", "RIGHT"), letter)
            self.model.pending.insert(0, letter)
            return
        letters = self.model.dead[index % len(self.model.dead) :][:count]
        operation = op.redrive(K, [(letter, wire.redriven(letter)) for letter in letters])
        chosen = [(letter, wire.redriven(letter)) for letter in letters]
        self.both(operation, self.model.redrive(chosen))
        if not set(letters) & set(self.model.dead):
            self.repeat(operation, lambda: self.model.redrive(chosen))

    @when("dead")
    @rule(index=indexes)
    def purge(self, index: int) -> None:
        letters = [pick(self.model.dead, index), b'{"id":"gone"}']
        self.both(op.purge(K, letters), self.model.purge(letters))

    @when(*NAMES)
    @rule(place=st.sampled_from(NAMES), index=indexes, known=st.sampled_from([True, True, False]))
    def cancel(self, place: str, index: int, known: bool) -> None:
        jobs = [job for job in getattr(self.model, place) if id_of(job)] or [JOBS[0]]
        job = pick(jobs, index)
        job_id = str(id_of(job))
        if not known:
            job = b""
        operation = op.cancel(K, job_id, job, result_ttl_ms=KEY_TTL, result=b"cancelled")
        self.both(operation, self.model.cancel(job_id, job, b"cancelled", KEY_TTL))

    @rule(what=st.sampled_from(OPERATIONS), job=jobs)
    def operate(self, what: str, job: bytes) -> None:
        if what == "look":
            self.both(op.find(K, str(id_of(job)), job), self.model.find(job))
        elif what == "forget the scripts":
            self.store.run(plain("SCRIPT", "FLUSH"))
        elif what == "save":
            self.savepoint = Savepoint(
                deepcopy(self.model), self.store.run(raw(DUMP_SCRIPT, (K.pending,)))
            )
        else:
            paused = what == "pause"
            self.both(op.pause(K, paused=paused), self.model.paused != paused)
            self.model.paused = paused

    @when("savepoint")
    @rule()
    def roll_back(self) -> None:
        """Redis fails over to a replica that lags; its clients remember what they remember."""
        assert self.savepoint is not None
        ms = self.model.now - self.savepoint.model.now
        self.model = deepcopy(self.savepoint.model)
        self.model.advance(ms)
        self.store.run(raw(RESTORE_SCRIPT, (K.pending,), *self.savepoint.dump))
        self.savepoint = None
        self.store.run(raw(AGE_SCRIPT, (K.pending,), ms))

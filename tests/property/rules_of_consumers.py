"""What consumers do: claim, adopt, settle, extend, crash, and try what is not theirs."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule

from headrace import flows, wire
from headrace import operations as op
from tests.property.commands import plain
from tests.property.examples import (
    FAILURE,
    LEASE,
    K,
    delays,
    indexes,
    lost_one_in_three,
    names,
    pick,
    several_verbs,
    split,
    verbs,
)
from tests.property.machine import Consumer, Held, Moved, same, when
from tests.property.model import ENDED, KEY_TTL, id_of
from tests.property.rules_of_others import RulesOfOthers


class RulesOfConsumers(RulesOfOthers):
    """Each rule runs on Redis and on the model, and compares the answers."""

    # Claiming.

    @when("pending", "priority", "delayed", "paused")
    @rule(name=names, count=st.integers(1, 4), lost=lost_one_in_three)
    def claim(self, name: str, count: int, lost: bool) -> None:
        consumer, paused = self.consumer(name), self.model.paused
        first = consumer.numbers(count)
        operation = op.claim(K, count, lease_ms=LEASE, consumer=name, first=first)
        jobs = self.model.claim(count, LEASE, name, first)
        claimed = self.store.run(operation)
        assert (claimed.jobs, claimed.paused) == (jobs, paused)
        if not lost:
            for number, job in enumerate(jobs, first):
                self.receive(consumer, number, job)

    @when("pending")
    @rule(name=names, lost=lost_one_in_three)
    def move(self, name: str, lost: bool) -> None:
        """The blocking move of an idle consumer, as it is when there is a job."""
        expected = self.model.move()
        job = self.both(plain("LMOVE", K.pending, K.processing, "RIGHT", "LEFT"), expected)
        if not lost:
            consumer = self.consumer(name)
            self.receive(consumer, consumer.numbers(1), job, bare=True)

    def receive(self, consumer: Consumer, number: int, job: bytes, *, bare: bool = False) -> None:
        parts = wire.split(job)
        if parts and not bare:
            consumer.held.append(Held(parts[0].id, number, job))
            return
        try:
            head, body = parts or wire.canonical(job)
        except Exception:
            head, body = split(wire.malformed_letter(job, FAILURE))
        if len(head.id) == 26:  # a new one: random, and an example must be the same each time
            head = head._replace(id=self.fresh_id())
        adopted = job if parts else wire.join(head, body)
        consumer.moved.append(Moved(number, job, head.id, adopted))

    @when("moved")
    @rule(index=indexes, swept=lost_one_in_three, lost=lost_one_in_three, begun=st.booleans())
    def adopt(self, index: int, swept: bool, lost: bool, begun: bool = False) -> None:
        """Right after the move, or late: after a sweep, after a reclaim; repeated when lost."""
        if swept:
            self.sweep(everything=False, offset=0)
            self.redis_is_as_the_model_says()
        consumer, m = pick(self.moved, index)
        token = f"{consumer.name}:{m.number}"
        answer = self.adopts(token, m.moved, m.job_id, m.job, lost=lost, begun=begun)
        if answer == "duplicate":
            head, body = split(m.job)
            m.job_id = self.fresh_id()
            m.job = wire.join(head._replace(id=m.job_id), body)
            return
        consumer.moved.remove(m)
        if answer == "ok":
            consumer.held.append(Held(m.job_id, m.number, m.job))

    def adopts(
        self,
        token: str,
        moved: bytes,
        job_id: str,
        job: bytes,
        *,
        lost: bool,
        begun: bool = False,
    ) -> str:
        operation = op.adopt(
            K,
            token=token,
            lease_ms=LEASE,
            moved=moved,
            job_id=job_id,
            job=job,
            begun=begun,
            key=split(job)[0].key,
        )

        def expected() -> str:
            return self.model.adopt(token, LEASE, moved, job_id, job, begun)

        answer = self.both(operation, expected())
        if lost and answer == "ok":
            self.repeat(operation, expected)
        elif lost:  # not a repetition for Redis: an equal item may have come into its place
            answer = self.both(operation, expected())
        return answer

    @when("held")
    @rule(index=indexes, lost=lost_one_in_three)
    def rewrite(self, index: int, lost: bool) -> None:
        """Adopt what is held already: renewed, and without the error of a redriven job."""
        consumer = pick(self.held, index)
        held = pick(consumer.held, index)
        job = wire.redriven(held.job)
        if id_of(job) != held.job_id:  # it was malformed, and is again
            job = held.job
        token = f"{consumer.name}:{held.number}"
        if self.adopts(token, held.job, held.job_id, job, lost=lost) == "ok":
            held.job = job

    # Settling.

    @when("held")
    @rule(
        index=indexes,
        chosen=several_verbs,
        delay=delays,
        oldest=st.booleans(),
        lost=lost_one_in_three,
    )
    def settle(
        self, index: int, chosen: list[tuple[int, op.Verb]], delay: int, oldest: bool, lost: bool
    ) -> None:
        if not self.held:
            return
        consumer = pick(self.held, index)
        ended = [pick(consumer.held, index) for index, _ in chosen]
        outcomes = [
            self.outcome(held, verb, delay, oldest)
            for held, (_, verb) in zip(ended, chosen, strict=True)
        ]
        operation = op.settle(K, consumer.name, outcomes)
        deaths, letters = sum(outcome.verb == "dead" for outcome in outcomes), len(self.model.dead)
        refused = self.both(operation, self.model.settle(consumer.name, outcomes))
        assert len(self.model.dead) - letters >= deaths - len(refused), "I7: a death has a letter"
        if lost:
            self.repeat(operation, lambda: self.model.settle(consumer.name, outcomes))
        for held in ended:
            if held in consumer.held:
                consumer.held.remove(held)
                consumer.past.append(held)

    def outcome(self, held: Held, verb: op.Verb, delay: int, oldest: bool) -> op.Outcome:
        head, body = split(held.job)
        job = b""
        if verb == "retry":
            head = head._replace(delivery=head.delivery + 1, attempt=head.attempt + 1)
            job = wire.join(head, body)
        elif verb == "park":
            job = wire.join(head._replace(delivery=head.delivery + 1, unknown_since=1), body)
        elif verb == "dead":
            job = self.letter(held.job)
        ttl = KEY_TTL if verb in {"done", "dead"} else 0
        number = -held.number if oldest else held.number
        key = split(held.job)[0].key
        return op.Outcome(held.job_id, number, verb, delay, job, ttl, verb.encode(), key)

    def letter(self, job: bytes) -> bytes:
        try:
            wire.read_body(job)
        except Exception:
            _, body = split(wire.malformed_letter(job, FAILURE))
            return wire.join(wire.Head(self.fresh_id()), body)
        return wire.letter(*split(job), FAILURE)

    @when("pending", "held")
    @rule(name=names, index=indexes, chosen=several_verbs, lost=lost_one_in_three)
    def turn(self, name: str, index: int, chosen: list[tuple[int, op.Verb]], lost: bool) -> None:
        """What a busy consumer does: end some, claim some."""
        self.settle(index, chosen, 0, oldest=False, lost=lost)
        self.redis_is_as_the_model_says()
        self.claim(name, 2, lost=False)

    @when("past", "leases")
    @rule(index=indexes, verb=verbs, how=st.sampled_from(["past", "past", "garbage", "other"]))
    def settle_what_is_not_ones_own(self, index: int, verb: op.Verb, how: str) -> None:
        """A claim of the past, of somebody else, of nobody. I4: a stale one ends nothing.

        Only after a rollback can a claim of the past be current again.
        """
        claims = self.past
        if how != "past":
            claims = []
            for name, lease in self.model.leases.items():
                number = int(lease.owner.partition(":")[2] or 1) + 1_000 * (how == "garbage")
                claims.append((pick(self.consumers, index), Held(name, number, lease.job)))
        if not claims:
            return
        consumer, held = pick(claims, index)
        if id_of(held.job) is None:
            return
        outcomes = [self.outcome(held, verb, 0, oldest=False)]
        its_lease = self.model.leases.get(held.job_id)
        before = self.model.state()
        current = its_lease is not None and its_lease.owner == f"{consumer.name}:{held.number}"
        answer = self.model.settle(consumer.name, outcomes)
        self.both(op.settle(K, consumer.name, outcomes), answer)
        if not current:
            assert answer == [held.job_id]
            assert same(before, self.model.state()), "I4: a stale claim ended a job"

    # Holding, and losing.

    @when("held", "past")
    @rule(name=names)
    def extend(self, name: str) -> None:
        consumer = self.consumer(name)
        claims = [(held.job_id, held.number) for held in consumer.held + consumer.past[-2:]]
        if not claims:
            return
        operation = op.extend(K, name, claims, lease_ms=LEASE)
        wanted = [job_id for job_id, _ in claims if job_id in self.model.cancelled]
        answer = op.Extended(self.model.extend(name, claims, LEASE), wanted)
        self.both(operation, answer)
        self.both(operation, answer)  # I5

    @when("held", "moved")
    @rule(name=names)
    def crash(self, name: str) -> None:
        self.consumer(name).forget()

    @when("leases")
    @rule(name=names)
    def release_unknown(self, name: str) -> None:
        """Release what the consumer holds in Redis and does not know of: its answer was lost."""
        known = {(held.job_id, held.number) for held in self.consumer(name).held}
        mine = [
            (int(lease.owner.partition(":")[2]), job_id)
            for job_id, lease in self.model.leases.items()
            if lease.owner.startswith(f"{name}:")
        ]
        strays = [(number, job_id) for number, job_id in mine if (job_id, number) not in known]
        releases = [op.Outcome(i, n, "release") for n, i in sorted(strays, reverse=True)]
        self.model.settle(name, releases)
        assert self.store.follow(flows.release_unknown(K, name, known)) == len(strays)

    @when("leases")
    @rule(name=names)
    def is_gone(self, name: str) -> None:
        """Somebody sees that a consumer has no connection; it may be alive all the same."""
        mine = [lease for lease in self.model.leases.values() if lease.owner.startswith(f"{name}:")]
        for lease in mine:
            lease.deadline = ENDED
        assert self.store.follow(flows.expire_leases(K, name)) == len(mine)

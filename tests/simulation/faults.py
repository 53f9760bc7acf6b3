"""What goes wrong: drawn from the seed, a few kinds at a time, and none after the plan has healed.

Seeds differ in what can go wrong at all ("swarm testing"): a run in which everything fails at once
excuses everything, and finds little.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tests.simulation.world import Node, World

if TYPE_CHECKING:
    from tests.simulation.network import Command, Connection
    from tests.simulation.server import Server

MESSAGES = ("request lost", "reply lost", "request swallowed", "reply swallowed", "slow", "cut")
PROCESSES = ("crash", "crash at a call", "machine lost", "stopped", "busy", "partition", "SIGTERM")
SERVERS = ("away", "restart", "stalled", "failover", "full", "scripts forgotten", "leader lost")
WEAK = ("rollback", "clock jump")  # after which less is promised
KINDS = MESSAGES + PROCESSES + SERVERS + WEAK

LATENCIES = ((0.0001, 0.001), (0.0005, 0.01), (0.001, 0.05))
CALLS = ("crash before", "crash after", "crash at reply")
STOPS = ("stopped before", "stopped after")
# What happens at a call that was chosen by its script.
AIMED = (*CALLS, *STOPS, "stopped before", "slow")


class Faults:
    """The plan of one seed, and its execution.

    Attributes:
        counts: faults injected so far, by kind.
        weak_at: when last something happened after which less is promised.
        outage_until: when the server is, or was, well again.
    """

    def __init__(self, world: World, lease_s: float) -> None:
        rng = self._rng = world.rng
        self.world = world
        self.lease_s = lease_s
        self.counts: Counter[str] = Counter()
        self.weak_at = self.outage_until = -1e9
        self.heals_at = world.now + rng.uniform(1.0, 2.5 * lease_s)
        self._latency = rng.choice(LATENCIES)
        calm = rng.random() < 0.1
        chances = {kind: 0.05 if kind in WEAK else 0.2 for kind in KINDS}
        self.enabled = [kind for kind in KINDS if rng.random() < chances[kind] and not calm]
        self._rates = {k: rng.choice((0.003, 0.01, 0.05)) for k in MESSAGES if k in self.enabled}
        self._calls: dict[str, tuple[int, str]] = {}  # node -> at which of its calls, how
        self._aims: dict[str, tuple[int, str]] = {}  # script -> at which of its calls, how
        self._consumers: set[str] = set()
        self._seen: Counter[str] = Counter()

    @property
    def active(self) -> bool:
        return self.world.now < self.heals_at

    @property
    def enabled_timed(self) -> list[str]:
        return [k for k in self.enabled if k not in MESSAGES and k != "crash at a call"]

    def count(self, kind: str, node: Node | None = None) -> None:
        self.counts[kind] += 1
        if node is not None:
            node.disturbed_at = self.world.now
            if kind in MESSAGES:
                node.troubles.append(self.world.now)
            else:
                node.shaken_at = self.world.now
        if kind in WEAK:
            self.weak_at = self.world.now
        self.world.note("FAULT", kind, node.name if node else "")

    def excuses(self, node: Node, since: float) -> bool:
        """Tell whether a fault may explain what a node did, or did not do, since an instant."""
        since -= (
            self.lease_s + 12.0
        )  # a request may take so long to be given up, and to be repeated
        last = max(node.disturbed_at, self.weak_at, node.stopped_until, node.cut_off_until)
        return last >= since

    def excuses_loss(self, node: Node, since: float) -> bool:
        """Tell whether a consumer may have lost a lease: a lost message or two must not cost one."""
        since -= self.lease_s + 12.0
        if max(node.shaken_at, self.weak_at, node.stopped_until, node.cut_off_until) >= since:
            return True
        troubles = sum(at >= since for at in node.troubles)
        return troubles > (2 if self.lease_s >= 15.0 else 0)  # each may take 5 s to be noticed

    def _ail(self, for_s: float) -> float:
        self.outage_until = max(self.outage_until, self.world.now + for_s)
        return for_s

    # — messages —

    def latency_s(self, *, slow: bool = False) -> float:
        if slow:
            return self._rng.choice((0.3, 2.0, 4.9, 6.0, 12.0)) * self._rng.uniform(0.9, 1.1)
        return self._rng.uniform(*self._latency)

    def aim(self, scripts: Sequence[str]) -> None:
        """Perhaps let something happen at calls of a few scripts: by chance it rarely does at rare ones.

        Args:
            scripts: the SHA-1 of each.
        """
        if scripts and self.enabled and self._rng.random() < 0.7:
            for sha in self._rng.sample(scripts, k=3):
                self._aims[sha] = (self._rng.choice((1, 1, 2, 4)), self._rng.choice(AIMED))

    def _hit(self, node: Node, commands: Sequence[Command]) -> str:
        """Tell what is to happen at this call of a script, if it was chosen."""
        for sha in (command[1] for command in commands if command[0] == "EVALSHA"):
            at, how = self._aims.get(sha, (0, ""))
            if at == 1:
                del self._aims[sha]
                return how if how not in CALLS or node.name in self._consumers else ""
            if at:
                self._aims[sha] = (at - 1, how)
        return ""

    def _stop(self, node: Node) -> None:
        node.hold(self.world.now + self._rng.uniform(0.1, 2.5) * self.lease_s, whole=True)
        self.world.at(node.stopped_until, self._touch, node)

    def prepare(self, node: Node) -> None:
        """Perhaps let a consumer crash at one of its calls."""
        self._consumers.add(node.name)
        if "crash at a call" in self.enabled and self._rng.random() < 0.7:
            self._calls[node.name] = (self._rng.randint(1, 60), self._rng.choice(CALLS))

    def of_request(self, connection: Connection, commands: Sequence[Command]) -> str:
        node = connection.node
        if node.dead:
            return "swallowed"
        if node.cut_off_until > self.world.now:
            return "swallowed"
        if not self.active:
            return ""
        self._seen[node.name] += 1
        if self._aims and (aimed := self._hit(node, commands)):
            return self._strike_call(node, aimed)
        at, how = self._calls.get(node.name, (0, ""))
        if at == self._seen[node.name] and how != "crash at reply":
            return self._strike_call(node, how)
        return self._draw(node, ("request lost", "request swallowed", "slow"))

    def _strike_call(self, node: Node, how: str) -> str:
        """Let something happen at a call; tell what becomes of the request."""
        if how == "crash at reply":
            self._calls[node.name] = (self._seen[node.name], how)
            return ""
        if how in STOPS:  # what it asks for, or what it hears, was true when it stopped
            self.count("stopped", node)
            self._stop(node)
            return how if how == "stopped before" else ""
        self.count("slow" if how == "slow" else "crash at a call", node)
        if how == "crash before":
            node.kill()
            return "swallowed"
        return how

    def of_batch(self, connection: Connection, commands: Sequence[Command]) -> int:
        """Tell after how many of several commands the connection breaks; 0 it does not."""
        rate = self._rates.get("cut", 0)
        if not rate or not self.active or len(commands) < 2 or self._rng.random() > 4 * rate:
            return 0
        self.count("cut", connection.node)
        return self._rng.randint(1, len(commands) - 1)

    def of_reply(self, connection: Connection) -> str:
        node = connection.node
        if node.cut_off_until > self.world.now:
            return "swallowed"
        if not self.active:
            return ""
        at, how = self._calls.get(node.name, (0, ""))
        if how == "crash at reply" and at <= self._seen[node.name] and not node.dead:
            del self._calls[node.name]
            self.count("crash at a call", node)
            node.kill()
            return "lost"
        return self._draw(node, ("reply lost", "reply swallowed", "slow"))

    def _draw(self, node: Node, kinds: tuple[str, ...]) -> str:
        for kind in kinds:
            rate = self._rates.get(kind)
            if rate and self._rng.random() < rate:
                self.count(kind, node)
                return kind.split()[-1]
        return ""

    # — what happens at an instant —

    def schedule(self, server: Server, victims: Callable[[], list[Node]]) -> None:
        """Plan everything that is not about one message.

        Args:
            server: the Redis.
            victims: gives the consumers that live.
        """
        rng = self._rng
        for kind in self.enabled_timed:
            for _ in range(rng.choice((1, 1, 2, 3))):
                at = rng.uniform(self.world.now, self.heals_at)
                if kind in PROCESSES:
                    self.world.at(at, self._strike, kind, victims)
                else:
                    self.world.at(at, getattr(self, f"_{kind.replace(' ', '_')}"), server)

    def _strike(self, kind: str, victims: Callable[[], list[Node]]) -> None:
        alive = victims()
        if not alive or not self.active:
            return
        at_work = [node for node in alive if node.runs]  # where it hurts more
        now, rng = self.world.now, self._rng
        node = rng.choice(at_work if at_work and rng.random() < 0.7 else alive)
        if kind == "SIGTERM":
            self.counts[kind] += 1
            self.world.note("FAULT", kind, node.name)
            node.call(node.terminate)
            return
        if kind == "busy":  # no excuse: leases are extended meanwhile
            self.counts[kind] += 1
            self.world.note("FAULT", kind, node.name)
            node.hold(now + rng.uniform(0.2, 3.0) * self.lease_s, whole=False)
            return
        self.count(kind, node)
        if kind == "stopped":
            self._stop(node)
        elif kind == "partition":
            node.cut_off_until = now + rng.uniform(0.1, 2.0) * self.lease_s
            self.world.at(node.cut_off_until + 15.0, self._touch, node)
        else:
            node.kill(silently=kind == "machine lost")

    def _touch(self, node: Node) -> None:
        node.disturbed_at = node.shaken_at = self.world.now

    def _away(self, server: Server, *, then: Callable[[], Any] | None = None) -> None:
        if server.is_away:
            return
        if then is None:
            self.count("away")
        server.is_away = True
        server.cut_all()
        self.world.later(
            self._ail(self._rng.uniform(0.1, 1.5) * self.lease_s), self._back, server, then
        )

    def _back(self, server: Server, then: Callable[[], Any] | None) -> None:
        server.is_away = False
        server.known_scripts.clear()
        if then is not None:
            then()

    def _restart(self, server: Server) -> None:
        self.count("restart")

        def load() -> None:
            server.is_loading = True
            self.world.later(
                self._ail(self._rng.uniform(0.1, 2.0)), setattr, server, "is_loading", False
            )

        self._away(server, then=load)

    def _rollback(self, server: Server) -> None:
        saved = server.save()
        self.world.later(self._rng.uniform(0.05, 2.0), self._roll_back, server, saved)

    def _roll_back(self, server: Server, saved: Any) -> None:
        self.count("rollback")

        def restore() -> None:
            server.restore(saved)
            self.weak_at = self.world.now
            for queue in server.queues.values():  # the operator does not rely on having resumed it
                queue.run_pause(0)

        self._away(server, then=restore)

    def _stalled(self, server: Server) -> None:
        self.count("stalled")
        server.stalled_until = self.world.now + self._ail(
            self._rng.uniform(0.1, 1.5) * self.lease_s
        )

    def _failover(self, server: Server) -> None:
        self.count("failover")
        server.demote()
        self.world.later(
            self._ail(self._rng.uniform(0.05, 4.0)), setattr, server, "is_replica", False
        )

    def _full(self, server: Server) -> None:
        self.count("full")
        server.is_full = True
        self.world.later(self._ail(self._rng.uniform(0.5, 5.0)), setattr, server, "is_full", False)

    def _scripts_forgotten(self, server: Server) -> None:
        self.count("scripts forgotten")
        server.known_scripts.clear()

    def _leader_lost(self, server: Server) -> None:
        self.count("leader lost")
        server.leader = ("nobody", server.clock_ms() + 3_000)

    def _clock_jump(self, server: Server) -> None:
        self.count("clock jump")
        server.jumped_ms += self._rng.choice((-20_000, -3_000, -500, 500, 3_000, 20_000, 3_600_000))

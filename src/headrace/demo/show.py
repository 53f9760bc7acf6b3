"""``headrace demo``: a queue at work, shown with the commands that everybody has."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.console import Console

from headrace.clock import monotonic
from headrace.demo.orders import ATTEMPTS, REFUSED, Ledger
from headrace.demo.processes import Shell, Trouble
from headrace.demo.proof import Proof
from headrace.doctor.humanize import counted
from headrace.embedded import EmbeddedServer, ended_by_signals
from headrace.embedded.cluster import EmbeddedCluster
from headrace.embedded.server import HOST, free_port
from headrace.embedded.wait import within
from headrace.settings import DEFAULT_QUEUE

ORDERS_EACH: Final = 1_000
"""For each consumer: with its 100 slots, ten seconds of work."""

_VICTIM: Final = "victim"  # what the consumer is called that is killed
_LEASE_S: Final = 3  # so that nobody waits long for the recovery; by default it is 15
_LOOK_S: Final = 0.2
_FRAME_S: Final = 1.5  # info looks once a second: so its last look is of the end
_STUCK_S: Final = 60.0  # three times what a recovery may take by default
_PROBLEMS: Final = 5  # that are told; the rest is counted

_console: Final = Console(highlight=False, markup=False, emoji=False)


def run_demo(*, consumers: int = 3, keep: bool = False, cluster: bool = False) -> int:
    """Run the demo on a private server, and clean up.

    Args:
        consumers: how many consumers there are, one of which is killed.
        cluster: run it on a private cluster, of which a primary is killed.
        keep: leave the server's data, the ledger and all logs behind, and say where.

    Returns:
        0 when no job is lost, else 1.

    Raises:
        EmbeddedServerError: the server cannot start.
    """
    folder = Path(tempfile.mkdtemp(prefix="headrace-demo-"))
    try:
        with (
            ended_by_signals(lambda number: 128 + number),
            _started(folder / "redis", cluster=cluster) as redis,
            Shell(folder, redis.url) as shell,
        ):
            proof = _Demo(folder, redis, shell).run(consumers)
    except Trouble as error:
        _say(f"The demo has failed: {error}", "red")
        return 1
    except (KeyboardInterrupt, SystemExit):
        _say("Stopped; everything that was started has ended.")
        raise
    finally:
        if keep:
            _say(f"Data, ledger and logs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return verdict(proof)


def _started(folder: Path, *, cluster: bool) -> EmbeddedServer | EmbeddedCluster:
    if cluster:
        return EmbeddedCluster.start(folder, die_with_parent=True)
    return EmbeddedServer.start(folder, port=0, die_with_parent=True)


class _Demo:
    """What happens, in its order; raises ``Trouble`` when it cannot go on."""

    def __init__(self, folder: Path, redis: EmbeddedServer | EmbeddedCluster, shell: Shell) -> None:
        self._folder = folder
        self._redis = redis
        self._shell = shell
        self._ledger = folder / "ledger"
        self._ledger.touch()
        self._victim = 0  # its process

    def run(self, consumers: int) -> Proof:
        """Do everything; return what was seen."""
        _say(f"A private {self._redis}. To look for yourself, in another terminal:")
        _command(f"cd {self._folder}; export HEADRACE_URL={self._redis.url}")
        _say()
        orders = consumers * ORDERS_EACH
        _comment(
            f"{orders:,} orders to pay: the bank takes a second for each, and refuses no. {REFUSED}"
        )
        self._start(consumers)
        accepted = self._produce(orders)
        self._watch(lambda ledger: ledger.ended() > orders / 4 and ledger.running(self._victim) > 0)
        self._kill_consumer()
        restart = self._kill_redis()
        self._watch(lambda ledger: ledger.ended() == orders and self._settled() == orders)
        self._shell.end()
        _comment(f"Where is everything? What failed {ATTEMPTS} times is a dead letter")
        self._show("dlq", "list")
        self._show("audit")
        return Proof(
            accepted=accepted,
            ledger=Ledger.read(self._ledger),
            dead=[letter["id"] for letter in self._shell.json("dlq", "list", "--limit", "0")],
            total=self._shell.json("audit")["total"],
            victim=self._victim,
            restart=restart,
        )

    def _start(self, consumers: int) -> None:
        port, lease = free_port(), ("--lease", str(_LEASE_S))
        serve = ("serve", "--port", str(port), *lease)
        _command(f"headrace {' '.join(serve)} &", f"the page: http://{HOST}:{port}/")
        self._shell.start("serve", *serve)
        consume = ("consume", "headrace.demo.orders", *lease)
        _command(f"headrace {' '.join(consume)} &", f"{consumers} of them")
        for number in range(1, consumers):
            self._shell.start(f"consumer-{number}", *consume)
        self._victim = self._shell.start(_VICTIM, *consume)

    def _produce(self, orders: int) -> list[str]:
        """Enqueue a job for each order, half of them each of two producers; return their ids."""
        half, path = orders // 2, self._ledger
        command = f"seq {half} | headrace produce pay $PWD/{path.name} --stdin"
        _command(command, f"and seq {half + 1} {orders} | …")
        produce = ("produce", "pay", str(path), "--stdin")
        self._shell.start("producer-1", *produce, stdin=range(1, half + 1))
        self._shell.start("producer-2", *produce, stdin=range(half + 1, orders + 1))
        return self._shell.output("producer-1") + self._shell.output("producer-2")

    def _kill_consumer(self) -> None:
        self._shell.kill(_VICTIM)
        held = Ledger.read(self._ledger).running(self._victim)
        _comment(f"A consumer is killed while it pays {held} orders")
        _command(f"kill -9 {self._victim}")
        self._show("consumers")

    def _kill_redis(self) -> int:
        """Kill the queue's server, and start it again; return how long the ledger was in between."""
        redis = self._redis
        if isinstance(redis, EmbeddedCluster):
            server: EmbeddedServer = redis.primary_of(DEFAULT_QUEUE)
            _comment("The queue's primary is killed as well; its replica takes over")
        else:
            server = redis
            _comment("Redis is killed as well, and started again on its append-only file")
        _command(f"kill -9 {server.pid}")
        server.kill()
        lines = len(Ledger.read(self._ledger))
        _pause(1.0)
        if isinstance(redis, EmbeddedCluster) and not within(
            _STUCK_S, lambda: redis.primary_of(DEFAULT_QUEUE) is not server
        ):
            raise Trouble("no replica has taken over from the primary that was killed")
        server.restart()  # of a cluster: as a replica of the new primary
        return lines

    def _watch(self, over: Callable[[Ledger], bool]) -> None:
        """Show the queue until something is seen in the ledger, or nothing more happens there."""
        _command("headrace info --watch")
        lines, stuck_at = 0, monotonic() + _STUCK_S
        with self._shell.watching("info", "--watch"):
            while not over(ledger := Ledger.read(self._ledger)) and monotonic() < stuck_at:
                self._shell.check()
                if len(ledger) > lines:
                    lines, stuck_at = len(ledger), monotonic() + _STUCK_S
                _pause(_LOOK_S)
            _pause(_FRAME_S)
        if not _console.is_terminal:  # there it leaves an empty line itself
            _say()

    def _settled(self) -> int:
        """Count the jobs that Redis knows to have ended."""
        total: dict[str, int] = self._shell.json("audit")["total"]
        return total["done"] + total["dead"]

    def _show(self, *args: str) -> None:
        _command(f"headrace {' '.join(args)}")
        self._shell.show(*args)
        _say()


def verdict(proof: Proof) -> int:
    """Say whether any job is lost; return the exit code."""
    problems = list(proof.problems())
    for problem in problems[:_PROBLEMS]:
        _say(f"- {problem}", "red")
    if problems:
        _say(f"Not every job is accounted for: {counted(len(problems), 'problem')}.", "bold red")
        return 1
    _say(f"Nothing was lost: {proof.ends()};", "bold green")
    _say(f"{proof.repeats()}.")
    return 0


def _comment(text: str) -> None:
    _say(f"# {text}", "bold")


def _command(line: str, remark: str = "") -> None:
    _say(f"$ {line}{f'  # {remark}' if remark else ''}", "cyan")


def _say(line: str = "", style: str = "") -> None:
    _console.print(line, style=style, soft_wrap=True)


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)

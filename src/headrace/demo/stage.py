"""The stage of the demo: a private server, and the real commands that work on it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from headrace import operations as op
from headrace.demo.census import app
from headrace.demo.processes import Child, Crew
from headrace.embedded import EmbeddedServer
from headrace.embedded.server import HOST, free_port
from headrace.embedded.wait import within
from headrace.keys import CONNECTION_PREFIX, LEADER, keys_of

LEASE_S: Final = 3.0
"""So that nobody waits long for the recovery; with less, a busy machine could miss extensions."""

SLOTS: Final = 4
"""Of each consumer: counting is work for the processor, and more threads would only take turns."""

_APP: Final = "headrace.demo.census:app"
_STARTED_WITHIN_S: Final = 30.0


class Trouble(Exception):
    """The demo cannot go on."""


class Stage:
    """What runs while the demo runs. All of it ends with the ``with`` block.

    Args:
        folder: where the server's data and all logs go.

    Attributes:
        server: the private server.
        store: the way to it.
        k: the keys of the demo's queue.
        consumers: the consumers, dead or alive.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ending = ExitStack()
        self.consumers: list[Child] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.server = stack.enter_context(
                EmbeddedServer.start(self._folder / "redis", port=0, die_with_parent=True)
            )
            app.use(self.server.url)
            stack.callback(app.close)
            self.store = app.producer().store
            self.k = keys_of(app.queue)
            self._crew = stack.enter_context(Crew(self._folder))
            self._ending = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def serve(self) -> str:
        """Start the job queue server; give the address of its page.

        Raises:
            Trouble: it does not start.
        """
        port = free_port()
        self._crew.start("serve", "serve", *self._common(), "--port", str(port))
        # Whoever is there first does the maintenance, and should not be the one that is killed.
        self._await("headrace serve", lambda: self.store.run(_leader) != b"")
        return f"http://{HOST}:{port}/"

    def consume(self, count: int) -> None:
        """Start consumers.

        Raises:
            Trouble: they do not start.
        """
        for number in range(1, count + 1):
            name = f"demo-{number}"
            options = ("--name", name, "--concurrency", str(SLOTS))
            self.consumers.append(
                self._crew.start(name, "consume", _APP, *self._common(), *options)
            )
        self._await("headrace consume", self._all_connected)

    def check(self) -> None:
        """See to it that nobody has ended unasked.

        Raises:
            Trouble: somebody has.
        """
        for child in self._crew.lost():
            raise Trouble(f"{child.name} ended (exit code {child.code}):\n{child.last_words()}")

    def close(self) -> list[str]:
        """Let all commands end; give what is to be said against any of them."""
        return [
            f"{child.name} did not end in order when asked to (exit code {child.code})"
            for child in self._crew.dismiss()
        ]

    def logs(self) -> str:
        """Return what everybody said last."""
        return "\n".join(f"--- {child.name}\n{child.last_words()}" for child in self._crew.children)

    def _common(self) -> tuple[str, ...]:
        return ("--url", self.server.url, "--lease", f"{LEASE_S:g}")

    def _await(self, who: str, condition: Callable[[], bool]) -> None:
        def over() -> bool:
            self.check()
            return condition()

        if not within(_STARTED_WITHIN_S, over):
            raise Trouble(f"{who} is not there after {_STARTED_WITHIN_S:g} s:\n{self.logs()}")

    def _all_connected(self) -> bool:
        listing: bytes = self.store.run(_clients)
        names = (f" name={CONNECTION_PREFIX}{child.name} " for child in self.consumers)
        return all(name.encode() in listing for name in names)


_leader = op.command("GET", LEADER, parse=lambda raw: raw or b"")
_clients = op.command("CLIENT", "LIST", parse=lambda raw: raw)

"""How a command reaches Redis, and what all that ask it need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter

from headrace import logs
from headrace import operations as op
from headrace.cli import output
from headrace.cli.flags import COMMON
from headrace.doctor import command
from headrace.errors import HeadraceError, NotPermitted, StoreRefused, StoreUnavailable
from headrace.keys import CONNECTION_PREFIX, keys_of
from headrace.partitions import view
from headrace.partitions.view import Parts
from headrace.settings import DEFAULT_QUEUE, RedisUrl, redis_url
from headrace.store import ServerInfo, Store, advice, probe

LogLevel: TypeAlias = Annotated[
    Literal["debug", "info", "warning", "error", "critical"],
    Parameter(
        alias="-l",
        env_var="HEADRACE_LOG_LEVEL",
        metavar="LEVEL",
        help="What to log; debug shows the tracebacks of errors, too.",
    ),
]


@Parameter(name="*", group=COMMON)
@dataclass(frozen=True, kw_only=True)
class Connection:
    """The options of a command that asks Redis and ends."""

    url: Annotated[
        str | None,
        Parameter(
            metavar="URL",
            help="Where Redis is; else HEADRACE_URL, else REDIS_URL, else "
            "redis://127.0.0.1:6379/0. Behind Sentinels: redis+sentinel://HOST,HOST,HOST/SERVICE. "
            "On a cluster: redis+cluster://HOST,HOST,HOST.",
        ),
    ] = None
    log_level: LogLevel = "warning"

    def write_logs(self) -> None:
        """Write the logs of this process, as the options say."""
        logs.configure(self.log_level)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Write logs, and return a store for as long as it is needed.

        Raises:
            InvalidSetting: the URL is not valid.
        """
        self.write_logs()
        with closing(Store(redis_url(self.url).url, name=f"{CONNECTION_PREFIX}cli")) as store:
            yield store


@Parameter(name="*", group=COMMON)
@dataclass(frozen=True, kw_only=True)
class Service(Connection):
    """The options of a program that stays."""

    log_level: LogLevel = "info"
    log_format: Annotated[
        Literal["text", "json"], Parameter(env_var="HEADRACE_LOG_FORMAT", metavar="FORMAT")
    ] = "text"
    """Lines for people, or one JSON object a line."""

    def write_logs(self) -> None:
        """Write the logs of this process, as the options say."""
        logs.configure(self.log_level, json=self.log_format == "json")


def server_at(where: RedisUrl) -> ServerInfo:
    """Return what the server says of itself.

    Raises:
        StoreError: there is none, or it will not do.
    """
    server = probe(where.url)
    if server is None:
        raise StoreUnavailable(f"no Redis at {where}. {advice(where.url)}")
    return server


def server_json(server: ServerInfo) -> dict[str, Any]:
    """Return what the server says of itself, for programs."""
    return asdict(server) | {"version": ".".join(map(str, server.version))}


def known_queues(
    store: Store, named: Iterable[str | None] = (), parts: Parts | None = None
) -> list[str]:
    """Return the queues that are meant: those named, else all known ones and the default.

    One that is divided stands as its partitions: ``parts``, if they have been asked for already.

    Raises:
        InvalidSetting: a name cannot be a queue's.
        StoreError: Redis did not answer.
    """
    names = [keys_of(name).queue for name in named if name is not None]
    if not names:
        return sorted({DEFAULT_QUEUE, *store.run(op.queues())})
    return view.expanded(names, store.follow(view.look(names)) if parts is None else parts)


class PassingOver:
    """Tells of queues that cannot be read, and goes on: their keys may be another program's, or not for us.

    Attributes:
        refused: what Redis said, by queue.
    """

    def __init__(self) -> None:
        self.refused: dict[str, StoreRefused] = {}

    @property
    def exit_code(self) -> int:
        """With which a command ends that did not find what it looked for: it may stand where Redis refused."""
        codes = (error.exit_code for error in self.refused.values())
        return max(codes, default=HeadraceError.exit_code)

    def looked_at(self, queues: Sequence[str]) -> list[str]:
        """Return those of these queues that Redis let us look at."""
        return [queue for queue in queues if queue not in self.refused]

    @contextmanager
    def __call__(self, queue: str) -> Iterator[None]:
        """Look at a queue, unless Redis refuses that."""
        try:
            yield
        except StoreRefused as error:
            if queue not in self.refused:  # once, of however many jobs
                tell_of_broken(queue, error)
            self.refused[queue] = error


def tell_of_broken(queue: str, error: StoreRefused) -> None:
    """Tell of a queue that cannot be read, or what is asked of it cannot be done."""
    if isinstance(error, NotPermitted):
        output.complain(f"queue {queue}: {error}")
        return
    output.complain(f"queue {queue} cannot be read: {error}; see {command('doctor', of=queue)}")

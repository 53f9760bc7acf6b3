"""``?credentials=module:function``: each new connection asks for its user and password."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from headrace import Headrace, InvalidSetting, StoreUnavailable
from headrace.embedded import EmbeddedServer
from headrace.errors import AccessDenied
from headrace.operations import command
from headrace.store import AsyncStore, Store, probe
from tests.support.commands import run_program
from tests.support.servers import private_server

PING = command("PING", parse=bytes)

ACCESS = """\
from pathlib import Path

def token():
    word = Path(__file__).with_name("token").read_text()
    if not word:
        raise TimeoutError("no token today")
    return ("shop", word)

def alone():
    return "of-default"

def nonsense():
    return ("shop",)
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with private_server(tmp_path_factory.mktemp("guarded")) as server:
        yield server


@pytest.fixture
def admin(guarded: EmbeddedServer) -> Iterator[Redis]:
    with Redis(port=guarded.port, single_connection_client=True) as admin:
        yield admin
        admin.acl_deluser("shop")


@pytest.fixture
def token(tmp_path: Path, admin: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the file that says what the password is now."""
    (tmp_path / "shop_access.py").write_text(ACCESS)
    monkeypatch.syspath_prepend(tmp_path)
    token = tmp_path / "token"
    rotate(admin, token, "first")
    yield token
    sys.modules.pop("shop_access", None)


def rotate(admin: Redis, token: Path, word: str) -> None:
    """Let there be another password, as of now."""
    admin.acl_setuser(
        "shop",
        enabled=True,
        reset=True,
        passwords=f"+{word}",
        keys="*",
        channels="*",
        commands=["+@all"],
    )
    token.write_text(word)


def url_of(server: EmbeddedServer, function: str = "token") -> str:
    return f"{server.url}?credentials=shop_access:{function}"


async def test_each_new_connection_asks_for_the_password(
    guarded: EmbeddedServer, admin: Redis, token: Path
) -> None:
    url = url_of(guarded)
    store, astore = Store(url), AsyncStore(url)
    assert probe(url) is not None
    for word in ("second", "third"):
        assert store.run(PING) == await astore.run(PING) == b"PONG"
        assert store.run(command("ACL", "WHOAMI", parse=bytes)) == b"shop"
        rotate(admin, token, word)  # "reset" ends what was connected
    assert store.run(PING) == await astore.run(PING) == b"PONG"
    store.close()
    await astore.close()


def test_a_wrong_password_is_refused_as_any(
    guarded: EmbeddedServer, admin: Redis, token: Path
) -> None:
    token.write_text("old")
    with pytest.raises(AccessDenied) as caught:
        Store(url_of(guarded)).run(PING)
    assert "old" not in str(caught.value)


@pytest.mark.parametrize("function", ["token", "nonsense"])
async def test_who_cannot_say_is_asked_again(
    guarded: EmbeddedServer, token: Path, function: str
) -> None:
    token.write_text("")
    url = url_of(guarded, function)
    with pytest.raises(StoreUnavailable, match=rf"credentials=shop_access:{function} has failed"):
        Store(url).run(PING)
    astore = AsyncStore(url)
    with pytest.raises(StoreUnavailable, match="has failed"):
        await astore.run(PING)
    await astore.close()


@pytest.mark.parametrize("name", ["shop", "shop_access", ":token", "shop_access:no"])
def test_a_name_that_is_none_is_refused(token: Path, name: str) -> None:
    with pytest.raises(InvalidSetting, match="write credentials=MODULE:FUNCTION"):
        Store(f"redis://127.0.0.1/0?credentials={name}")


def test_it_goes_wherever_a_url_goes(guarded: EmbeddedServer, token: Path) -> None:
    ran = run_program("produce", "echo", "hi", url=url_of(guarded), PYTHONPATH=str(token.parent))
    assert (ran.code, ran.err) == (0, "")
    app = Headrace(url_of(guarded))
    assert app.job(ran.lines[0]).status() == "pending"
    assert str(app.redis_url) == guarded.url
    app.close()

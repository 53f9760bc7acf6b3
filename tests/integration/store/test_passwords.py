"""Passwords: used, refused with what to do, and never shown."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from headrace import operations as op
from headrace.embedded import EmbeddedServer
from headrace.errors import ReplyLost, StoreRefused, StoreUnavailable
from headrace.keys import keys_of
from tests.integration.store.stores import K, Open, echo
from tests.support.proxy import proxied
from tests.support.servers import private_server

PASSWORD = "s3cret"
USER_PASSWORD = "0ther"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Start a server that wants a password, with a user ``worker`` who may not touch ``secret``."""
    with private_server(tmp_path_factory.mktemp("guarded")) as server:
        with Redis(port=server.port) as redis:
            redis.acl_setuser(
                *("worker", True, False, [f"+{USER_PASSWORD}"]),
                categories=["+@all"],
                keys=["queue*", "headrace:*"],
            )
            redis.config_set("requirepass", PASSWORD)
        yield server


def with_password(server: EmbeddedServer, credentials: str) -> str:
    return server.url.replace("//", f"//{credentials}@")


class TestPasswords:
    def test_no_error_shows_a_password_of_the_urls_options(
        self, closed_url: str, open_store: Open
    ) -> None:
        store = open_store(f"{closed_url}?username=worker&password={PASSWORD}")
        with pytest.raises(StoreUnavailable) as caught:
            store.run(echo("1"))
        assert PASSWORD not in str(caught.value)

    @pytest.mark.parametrize("credentials", [f":{PASSWORD}", f"worker:{USER_PASSWORD}"])
    def test_the_urls_user_and_password_are_used(
        self, guarded: EmbeddedServer, open_store: Open, credentials: str
    ) -> None:
        store = open_store(with_password(guarded, credentials))
        assert store.run(op.snapshot(K)).pending == 0

    @pytest.mark.parametrize("credentials", [":wr0ng", "worker:wr0ng", "nobody:wr0ng"])
    def test_a_wrong_one_is_refused_with_what_to_do(
        self, guarded: EmbeddedServer, open_store: Open, credentials: str
    ) -> None:
        store = open_store(with_password(guarded, credentials))
        with pytest.raises(StoreRefused, match="redis://user:password@host") as caught:
            store.run(op.snapshot(K))
        assert "wr0ng" not in str(caught.value)
        assert not caught.value.may_have_happened

    def test_none_where_one_is_wanted_is_refused_with_what_to_do(
        self, guarded: EmbeddedServer, open_store: Open
    ) -> None:
        with pytest.raises(StoreRefused, match="redis://user:password@host"):
            open_store(guarded.url).run(op.queues())

    def test_none_where_a_script_is_called_is_refused_with_what_to_do(
        self, guarded: EmbeddedServer, open_store: Open
    ) -> None:
        with pytest.raises(StoreRefused, match="redis://user:password@host"):
            open_store(guarded.url).run(op.snapshot(K))

    def test_what_a_user_may_not_do_is_refused(
        self, guarded: EmbeddedServer, open_store: Open
    ) -> None:
        store = open_store(with_password(guarded, f"worker:{USER_PASSWORD}"))
        with pytest.raises(StoreRefused, match="permission"):
            store.run(op.snapshot(keys_of("secret")))

    def test_no_error_shows_a_password(self, closed_url: str, open_store: Open) -> None:
        store = open_store(closed_url.replace("//", f"//worker:{PASSWORD}@"))
        with pytest.raises(StoreUnavailable) as caught:
            store.run(echo("1"))
        assert PASSWORD not in str(caught.value)
        assert "worker" not in str(caught.value)
        assert "redis://127.0.0.1" in str(caught.value)

    def test_no_error_shows_a_password_when_an_answer_is_lost(
        self, guarded: EmbeddedServer, open_store: Open
    ) -> None:
        with proxied(with_password(guarded, f":{PASSWORD}")) as proxy:
            url = proxy.url.replace("//", f"//:{PASSWORD}@")
            store = open_store(url)
            store.run(echo("1"))
            proxy.fail_next("cut")
            with pytest.raises(ReplyLost) as caught:
                store.run(echo("2"))
            assert PASSWORD not in str(caught.value)

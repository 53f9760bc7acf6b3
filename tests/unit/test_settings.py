"""Where Redis is, who says so first, and what may be shown of it."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import Headrace
from headrace.errors import HeadraceError, InvalidSetting
from headrace.settings import DEFAULT_URL, Group, RedisUrl, group_of, redacted, redis_url
from headrace.store import AsyncStore
from headrace.store.exchange import lost

PASSWORD = "s3cret"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADRACE_URL", raising=False)
    monkeypatch.delenv("REDIS_URL", raising=False)


def test_with_nothing_said_it_is_the_default_and_not_given() -> None:
    assert redis_url() == RedisUrl(DEFAULT_URL, given=False)


def test_redis_url_counts_as_given() -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("REDIS_URL", "redis://platform:6379/0")
        assert redis_url() == RedisUrl("redis://platform:6379/0", given=True)


def test_our_own_variable_comes_before_redis_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://platform:6379/0")
    monkeypatch.setenv("HEADRACE_URL", "redis://ours:6379/0")
    assert redis_url().url == "redis://ours:6379/0"


def test_what_the_caller_says_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_URL", "redis://ours:6379/0")
    assert redis_url("unix:///run/redis.sock") == RedisUrl("unix:///run/redis.sock", given=True)


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_URL", "")
    monkeypatch.setenv("REDIS_URL", "")
    assert not redis_url("").given


def test_the_default_url_spelled_out_is_given() -> None:
    assert redis_url(DEFAULT_URL).given


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix"])
def test_these_schemes_are_known(scheme: str) -> None:
    assert redis_url(f"{scheme}://host/0").url == f"{scheme}://host/0"


@pytest.mark.parametrize("url", ["localhost:6379", "http://host:6379", "host", "/run/redis.sock"])
def test_another_scheme_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(InvalidSetting, match=r"must begin with redis://.*for example redis://127"):
        redis_url(url)


@pytest.mark.parametrize("port", ["http", "65536", "-1"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(InvalidSetting, match="is not a URL"):
        redis_url(f"redis://host:{port}/0")


def test_a_refusal_names_the_variable_at_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "mysql://host")
    with pytest.raises(InvalidSetting, match="^REDIS_URL "):
        redis_url()


@pytest.mark.parametrize("url", [f"http://u:{PASSWORD}@host", f"redis://u:{PASSWORD}@host:port/0"])
def test_a_refusal_does_not_show_the_password(url: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        redis_url(url)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://[::1]:6379", "redis://[::1]:6379"),
        ("redis://host?db=4", "redis://host/4"),
        (f"redis://:{PASSWORD}@host:6379/0", "redis://host:6379/0"),
        (f"rediss://{PASSWORD}:{PASSWORD}@host/3", "rediss://host/3"),
        (f"redis://user:a@{PASSWORD}@host", "redis://host"),
        (f"redis://user:a:{PASSWORD}@host", "redis://host"),
        (f"rediss://host/0?ssl_password={PASSWORD}&db=1", "rediss://host/1"),
        (f"redis://host/0?passwrd={PASSWORD}", "redis://host/0"),
        (f"redis://host/0?p%61ssword={PASSWORD}", "redis://host/0"),
        (f"redis://host/0#{PASSWORD}", "redis://host/0"),
        (f"redis://host/{PASSWORD}", "redis://host"),
        (f"unix://user:{PASSWORD}@/run/redis.sock", "unix:///run/redis.sock"),
        (f"unix:///run/redis.sock?db=1&x={PASSWORD}", "unix:///run/redis.sock?db=1"),
        (f"redis+sentinel://u:{PASSWORD}@a:1,b:2/s/0", "redis+sentinel://a:1,b:2/s/0"),
        (f"redis+sentinel://a,b/s?sentinel_password={PASSWORD}", "redis+sentinel://a,b/s"),
        (f"redis+cluster://u:{PASSWORD}@a:1,b:2/0", "redis+cluster://a:1,b:2/0"),
    ],
)
def test_a_url_is_shown_without_user_password_and_options(url: str, shown: str) -> None:
    assert redacted(url) == shown
    assert str(RedisUrl(url, given=True)) == shown


@pytest.mark.parametrize(
    "url",
    [
        f"user:{PASSWORD}@db:6379/0",  # the scheme is forgotten
        f":{PASSWORD}@db:6379",
        f"http://{PASSWORD}@db",
        f"redis://user:{PASSWORD}/x@db",  # what a password holds is not encoded
        f"redis://user:12/{PASSWORD}@db",
        f"redis://user:12?{PASSWORD}@db",
        f"redis://user:12#{PASSWORD}@db",
        f"redis://:x:{PASSWORD}:6379",
        f"redis+sentinel://a:{PASSWORD},b/s",
    ],
)
def test_of_a_url_that_is_not_understood_nothing_is_shown(url: str) -> None:
    assert redacted(url) == "the given URL"
    with pytest.raises(InvalidSetting) as caught:
        redis_url(url)
    assert PASSWORD not in str(caught.value)


CORE = "hunter2"
"""Stands in each generated secret, so that also a part of it is found where it should not be."""

SECRETS = st.builds(
    lambda before, after, raw: (before + CORE + after) if raw else quote(before + CORE + after, ""),
    st.text("az09@:/#?%&= +é", max_size=4),
    st.text("az09@:/#?%&= +é", max_size=4),
    st.booleans(),
)
SHAPES = st.sampled_from(
    [
        "{scheme}{secret}:x@host:6379/0",
        "{scheme}user:{secret}@host:6379/0",
        "{scheme}:{secret}@host",
        "{scheme}{secret}@host/3",
        "{scheme}host:6379/0?password={secret}",
        "{scheme}host:6379/0?passwrd={secret}&db=2",
        "{scheme}host:6379?{secret}=1",
        "{scheme}host:6379?db={secret}",
        "{scheme}u:p@host:6379/0#{secret}",
        "{scheme}u:p@a:1,b:2/service/0?sentinel_password={secret}",
        "{scheme}u:{secret}@a:1,b:2/service/0",
        "{scheme}u:{secret}@/run/redis.sock",
    ]
)
SCHEMES = st.sampled_from(
    ["redis://", "rediss://", "unix://", "redis+sentinel://", "redis+cluster://"]
    + ["http://", "", "//", "redis:"]
)


@settings(max_examples=500, deadline=None)
@given(shape=SHAPES, scheme=SCHEMES, secret=SECRETS)
def test_no_message_and_no_repr_holds_a_part_of_a_secret(
    shape: str, scheme: str, secret: str
) -> None:
    url = shape.format(scheme=scheme, secret=secret)
    told: list[object] = [redacted(url), RedisUrl(url, given=True)]
    try:
        told.append(group_of(url))
    except InvalidSetting as error:
        told.append(error)
    try:
        app = Headrace(url)
        told += [app, vars(app), app.redis_url]
        told += [app.producer(), app.producer().store, AsyncStore(url)]
        told += [
            lost("GET", url, ConnectionRefusedError("no"), sent=sent) for sent in (False, True)
        ]
    except HeadraceError as error:
        told += [error, error.__cause__]
        assert error.__suppress_context__ or error.__context__ is None
    shown = " ".join(f"{one} {one!r}" for one in told)
    assert CORE not in shown


@pytest.mark.parametrize(
    ("url", "hosts", "service", "server_url"),
    [
        ("redis+sentinel://a:1,b:2/main/3", (("a", 1), ("b", 2)), "main", "redis:///3"),
        ("redis+sentinel://a,b/main", (("a", 26379), ("b", 26379)), "main", "redis:///"),
        ("redis+sentinel://[::1]:5,[::2]/m/", (("::1", 5), ("::2", 26379)), "m", "redis:///"),
        ("rediss+sentinel://u:p%40@a/m?x=1", (("a", 26379),), "m", "rediss://u:p%40@/?x=1"),
        ("redis+sentinel://:p@a/my%20main/0", (("a", 26379),), "my main", "redis://:p@/0"),
    ],
)
def test_a_url_names_sentinels_and_their_service(
    url: str, hosts: tuple[tuple[str, int], ...], service: str, server_url: str
) -> None:
    assert redis_url(url) == RedisUrl(url, given=True)
    assert group_of(url) == Group("sentinel", hosts, service, server_url)


@pytest.mark.parametrize("url", [DEFAULT_URL, "rediss://host/0", "unix:///run/redis.sock"])
def test_the_url_of_a_server_names_no_sentinels(url: str) -> None:
    assert group_of(url) is None


@pytest.mark.parametrize(
    "rest",
    [
        "a:1",
        "a:1/",
        "/main",
        "a,,b/main",
        ":26379/main",
        "a:no/main",
        "a:70000/main",
        "a/main/x",
        "a/m/0/1",
    ],
)
def test_a_url_of_sentinels_that_lacks_something_is_refused_with_an_example(rest: str) -> None:
    with pytest.raises(InvalidSetting, match="HOST:PORT.*redis\\+sentinel://host1") as caught:
        redis_url(f"redis+sentinel://u:{PASSWORD}@{rest}")
    assert PASSWORD not in str(caught.value)

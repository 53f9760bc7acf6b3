"""The pytest plugin, as the suite of an application uses it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytest_plugins = ["pytester"]

SHOP = """
from headrace import Headrace

app = Headrace("redis://127.0.0.1:1/0", queue="shop")
sent = []


@app.task(result_ttl=60)
def send_mail(order: int) -> str:
    sent.append(order)
    return f"mail for order {order}"


@app.task
async def fail() -> None:
    raise ValueError("no mail today")


def place_order(order: int) -> None:
    send_mail.enqueue(order)
"""

TESTS = """
import pytest
import shop
from headrace.testing import Inline, call


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_an_order_sends_mail(headrace, order):
    shop.sent.clear()
    shop.place_order(order)
    assert isinstance(headrace, Inline)
    assert headrace.enqueued == [call(shop.send_mail, order)]
    headrace.run()
    assert shop.sent == [order]


async def test_async(headrace):
    await shop.send_mail.aenqueue(5)
    await headrace.arun()
    assert headrace.result(shop.send_mail) == "mail for order 5"
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with a shop, and no plugin but those that a test names."""
    # Whether the entry point of this checkout is installed makes no difference.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}{os.pathsep}{pytester.path}")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makepyfile(shop=SHOP)
    return pytester


def run(suite: pytest.Pytester, *args: str) -> pytest.RunResult:
    return suite.runpytest_subprocess("-p", "_headrace_pytest", "-p", "no:cacheprovider", *args)


@pytest.mark.timeout(120)
def test_sync_and_async_tests_pass_in_several_processes(suite: pytest.Pytester) -> None:
    suite.makeini("[pytest]\nheadrace_app = shop:app\nasyncio_mode = auto\n")
    suite.makepyfile(test_shop=TESTS)
    run(suite, "-p", "asyncio", "-p", "xdist", "-n", "2").assert_outcomes(passed=5)


@pytest.mark.timeout(120)
def test_anyio_runs_async_tests_as_well(suite: pytest.Pytester) -> None:
    suite.makeini("[pytest]\nheadrace_app = shop:app\nanyio_mode = auto\n")
    suite.makepyfile(
        test_shop=TESTS.replace("async def test", "@pytest.mark.anyio\nasync def test")
    )
    suite.makeconftest("import pytest\n@pytest.fixture\ndef anyio_backend(): return 'asyncio'\n")
    run(suite, "-p", "anyio").assert_outcomes(passed=5)


@pytest.mark.timeout(120)
def test_the_application_may_come_from_a_fixture(suite: pytest.Pytester) -> None:
    suite.makeconftest(
        "import pytest\n@pytest.fixture\ndef headrace_app():\n    import shop\n    return shop.app\n"
    )
    suite.makepyfile(test_shop=TESTS.split("async def", maxsplit=1)[0])
    run(suite).assert_outcomes(passed=4)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("", "*no application to test*"),
        ("headrace_app = nowhere:app", "*there is no module 'nowhere'*"),
        ("headrace_app = shop:sent", "*not a Headrace application*"),
    ],
)
def test_an_application_that_is_not_found_is_told_of(
    suite: pytest.Pytester, setting: str, says: str
) -> None:
    suite.makeini(f"[pytest]\n{setting}\n")
    suite.makepyfile(test_shop="def test_it(headrace): pass")
    result = run(suite)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([says])


@pytest.mark.timeout(120)
def test_failures_read_well(suite: pytest.Pytester) -> None:
    suite.makeini("[pytest]\nheadrace_app = shop:app\n")
    suite.makepyfile(
        test_shop="""
import shop
from headrace.testing import call

def test_wrong_order(headrace):
    shop.place_order(6)
    assert headrace.enqueued == [call(shop.send_mail, 5)]

def test_the_tasks_own_error(headrace):
    shop.fail.enqueue()
    headrace.run()
"""
    )
    result = run(suite)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "E*assert [[]call(send_mail, 6)] == [[]call(send_mail, 5)]",
            "E*At index 0 diff: call(send_mail, 6) != call(send_mail, 5)",
            '>*raise ValueError("no mail today")',
        ]
    )
    result.stdout.no_fnmatch_line("*drive.py*")


@pytest.mark.timeout(120)
def test_a_session_has_a_private_server_and_a_real_consumer(suite: pytest.Pytester) -> None:
    suite.makeini("[pytest]\nheadrace_app = shop:app\n")
    suite.makepyfile(
        test_shop="""
import pathlib, pytest, shop

@pytest.mark.parametrize("order", [1, 2])
def test_mail(headrace_live, headrace_server, order):
    with pathlib.Path("urls").open("a") as urls:
        print(headrace_server.url, headrace_server.pid, file=urls)
    assert shop.send_mail.enqueue(order).result(timeout=60) == f"mail for order {order}"
"""
    )
    run(suite, "-p", "xdist", "-n", "2").assert_outcomes(passed=2)
    lines = (suite.path / "urls").read_text().split("\n")[:-1]
    assert len(set(lines)) == 2
    for line in lines:
        with pytest.raises(ProcessLookupError):
            os.kill(int(line.split()[1]), 0)


@pytest.mark.timeout(120)
def test_nothing_is_imported_before_a_test_asks_for_it(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        test_other="""
import sys

def test_something_else(request):
    assert request.config.pluginmanager.hasplugin("_headrace_pytest")
    assert not {"headrace", "redis", "msgspec"} & set(sys.modules)
"""
    )
    run(suite).assert_outcomes(passed=1)

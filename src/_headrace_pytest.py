"""The pytest plugin: fixtures for the tests of applications (docs/testing.md).

It stands beside the package, and imports it only when a test asks for a fixture: pytest imports every
plugin as it starts, wherever Headrace is installed, and importing a module of a package imports the
package (docs/decisions/0036).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from headrace import Headrace
    from headrace.embedded import EmbeddedServer
    from headrace.testing import Inline

_NO_APPLICATION = """\
no application to test: say which one it is, in pytest's settings, as for `headrace consume` …

    [tool.pytest.ini_options]
    headrace_app = "shop.jobs:app"

… or by a fixture of your own in conftest.py:

    @pytest.fixture
    def headrace_app():
        return app"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting."""
    parser.addini("headrace_app", "the Headrace application under test, as module:object")


@pytest.fixture(scope="session")
def headrace_app(request: pytest.FixtureRequest) -> Headrace:
    """The application under test: what the setting `headrace_app` names. To be overridden."""
    named = str(request.config.getini("headrace_app"))
    if not named:
        pytest.fail(_NO_APPLICATION, pytrace=False)
    from headrace.cli.application import load
    from headrace.errors import InvalidSetting

    try:
        return load(named)
    except InvalidSetting as error:
        pytest.fail(f"headrace_app = {named}: {error}", pytrace=False)


@pytest.fixture
def headrace(headrace_app: Headrace) -> Iterator[Inline]:
    """The jobs of the application under test, in memory, without Redis; they run when told to."""
    from headrace.testing import run_inline

    with run_inline(headrace_app) as jobs:
        yield jobs


@pytest.fixture(scope="session")
def headrace_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A private Redis of this session, and of this process of pytest-xdist: see its `url`."""
    from headrace.testing import server

    with server(tmp_path_factory.mktemp("headrace")) as started:
        yield started


@pytest.fixture
def headrace_live(headrace_app: Headrace, headrace_server: EmbeddedServer) -> Iterator[Headrace]:
    """The application under test on the session's Redis, emptied, with a real consumer in a thread."""
    from headrace.testing import live

    with live(headrace_app, headrace_server.url):
        yield headrace_app

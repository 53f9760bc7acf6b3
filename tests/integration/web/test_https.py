"""``headrace serve`` with a certificate and with tokens, as one runs it where others reach it."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from headrace.access import new_token
from headrace.embedded.server import free_port
from tests.support.processes import ROOT, clean_environment, processes
from tests.support.wait import WAIT_S, wait_until


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def served(url: str, tmp_path: Path, authority: trustme.CA) -> Iterator[tuple[str, str]]:
    """Run a server; give its address and an operator's token."""
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "shop.key")
    for part in certificate.cert_chain_pems:
        part.write_to_path(tmp_path / "shop.pem", append=True)
    token, entry = new_token("me", "operator", [], None)
    (tmp_path / "tokens.toml").write_text(entry)
    port = free_port()
    # As docs/operators.md says it, but on loopback.
    words = (
        f"serve --tokens tokens.toml --tls-certificate shop.pem --tls-key shop.key --port {port}"
    ).split()
    with processes(tmp_path) as start:
        program = start(
            *(sys.executable, "-m", "headrace", *words),
            env=clean_environment(PYTHONPATH=str(ROOT / "src"), HEADRACE_URL=url),
            cwd=tmp_path,
        )

        def serves() -> bool:
            assert program.alive(), program.output
            return "Serving at" in program.output

        wait_until(serves, "the server answers")
        yield f"https://localhost:{port}", token
        assert program.end() == 0


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_it_speaks_https_to_whoever_has_a_token(
    served: tuple[str, str], trusting: ssl.SSLContext
) -> None:
    base, token = served
    with httpx.Client(base_url=base, verify=trusting, timeout=WAIT_S) as client:
        assert client.get("/api/v1/queues").status_code == 401
        client.headers["authorization"] = f"Bearer {token}"
        assert client.post("/api/v1/jobs", json={"task": "t"}).status_code == 202
        (queue,) = client.get("/api/v1/queues").json()["queues"]
        assert queue["pending"] == 1


def test_it_does_not_speak_http_there(served: tuple[str, str]) -> None:
    base, token = served
    plain = base.replace("https:", "http:")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{plain}/healthz", headers={"authorization": f"Bearer {token}"}, timeout=WAIT_S)

"""The code blocks of README and docs are run, and the paths that they name exist."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from redis import Redis

from tests.support.documents import run_document
from tests.support.processes import ROOT, clean_environment

DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "migrating").glob("*.md")),
]

STAND_INS = Path(__file__).parent / "stand_ins"  # redis-cli, for machines that have no Redis

ELSEWHERE = {
    "make demo": "test_demo.py, which runs what this target runs",
    "make test": "you are in it",
    "make test-matrix": "by hand, before a release",
    "make test-engines": "by hand, before a release",
    "make bench": "by hand",
    "make check": "by hand, before each commit",
    "make faults": "by hand; tests/faults/test_faults_short.py runs a third of its classes, small",
    "make simulate": "by hand; tests/simulation/test_simulation.py runs some seeds",
    "make model": "by hand; tests/model/test_model.py checks a part, where spin is",
    "make fuzz": "by hand; tests/fuzz runs some examples",
    "make coverage": "by hand",
    "make mutants": "by hand",
    "headrace serve --tokens tokens.toml --host 0.0.0.0 --tls-certificate shop.pem --tls-key shop.key": (
        "tests/integration/web/test_https.py, on loopback"
    ),
    'curl -H "Authorization: Bearer hr_…" https://shop.example:8390/api/v1/queues': (
        "tests/integration/web/test_https.py, with httpx"
    ),
    'export HEADRACE_REDACT="password, card_*, pay()"': "tests/unit/test_redaction.py",
    "headrace dlq redrive --reason undecryptable": "tests/acceptance/test_encrypted_crashes.py",
    "pip install headrace": "test_wheel.py builds and looks into the wheel",
    "pip install .": "test_wheel.py",
    "redis-server": "test_seed.py",
    "python3 -m server.server": "test_seed.py",
    "python3 -m client.consumer": "test_seed.py",
    "python3 -m client.consumer & python3 -m client.consumer &": "test_seed.py",
    "python3 -m client.producer": "test_seed.py",
}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_code_blocks_run(
    document: Path, url: str, redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "$ curl" in document.read_text() and shutil.which("curl") is None:
        pytest.skip("this document shows curl, which is not installed here")
    monkeypatch.setenv("HEADRACE_URL", url)
    monkeypatch.chdir(tmp_path)
    env = clean_environment(HEADRACE_URL=url)
    run_document(document, tmp_path, env | {"PATH": f"{STAND_INS}:{env['PATH']}"}, ELSEWHERE)


@pytest.mark.parametrize(
    "document",
    [*DOCUMENTS, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs/decisions").glob("*.md"))],
    ids=lambda path: path.name,
)
def test_the_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"

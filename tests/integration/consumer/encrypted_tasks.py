"""Encrypted tasks that run in processes of their own, which find them, and the keys, by this module."""

from __future__ import annotations

from headrace import Encryption, Headrace

app = Headrace(max_attempts=1, encryption=Encryption([bytes(range(32))]))


@app.task(isolate="process", result_ttl=60)
def apart(card: str) -> str:
    return f"paid {card}"


@app.task(isolate="process", result_ttl=60)
def fail_apart(card: str) -> None:
    raise ValueError(card)

"""A file of tokens, and clients that have them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import httpx

from headrace import Headrace
from headrace.access import ROLES, Role, Tokens, new_token
from headrace.store import AsyncStore
from headrace.web import Access, create_app
from tests.integration.web.client import OURS
from tests.support.wait import WAIT_S


class Keyring:
    """A file of tokens, and clients that have them."""

    def __init__(self, app: Headrace, store: AsyncStore, path: Path) -> None:
        self.path = path
        self._tokens: dict[str, str] = {}
        self._clients: list[httpx.AsyncClient] = []
        self._app, self._store = app, store
        for role in ROLES:
            self.add(role, role)

    def add(self, name: str, role: Role, *queues: str, expires: date | None = None) -> None:
        token, entry = new_token(name, role, queues, expires)
        self._tokens[name] = token
        with self.path.open("a") as file:
            file.write(f"{entry}\n\n")

    def token(self, name: str) -> str:
        """Return the token of a name."""
        return self._tokens[name]

    def client(self, name: str = "") -> httpx.AsyncClient:
        """Return a client of a server that has read the file; without a name, one without a token."""
        access = Access(Tokens(self.path))
        transport = httpx.ASGITransport(create_app(self._app, self._store, access=access))
        token = self._tokens.get(name, name)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        client = httpx.AsyncClient(
            transport=transport, base_url=OURS, timeout=WAIT_S, headers=headers
        )
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()

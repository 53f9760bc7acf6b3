"""Passwords that change: a function of yours is asked for user and password by each new connection.

``redis://HOST/0?credentials=shop.access:token`` names it, as an entry point is named; so it goes wherever a URL
goes: to producers, consumers and their child processes, and to the command line. For managed servers whose
tokens run out (IAM, Entra), and for secrets that are rotated.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError as NotConnected

from headrace.errors import InvalidSetting


class Credentials(CredentialProvider):
    """Asks a function for user and password, or for the password of the default user.

    Args:
        name: ``module:function``.

    Raises:
        InvalidSetting: there is no such function.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        module, _, function = name.partition(":")
        try:
            self._function: Callable[[], Any] = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise InvalidSetting(
                f"credentials={name} names no function that can be imported ({error}): write "
                "credentials=MODULE:FUNCTION, as in credentials=shop.access:token"
            ) from None

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return the password, or user and password.

        Raises:
            redis.exceptions.ConnectionError: the function has failed; so whoever connects waits, and asks again.
        """
        try:
            said = self._function()
            user, password = ("", said) if isinstance(said, str) else said
        except Exception as error:
            raise NotConnected(f"credentials={self._name} has failed: {error!r}") from error
        return (user, password) if user else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """Return the same; the function may take its time, for it runs in a thread."""
        return await asyncio.to_thread(self.get_credentials)


def named_in(url: str) -> dict[str, Any]:
    """Return what a connection is given for the credentials that a URL names; nothing if it names none.

    Raises:
        InvalidSetting: there is no such function.
    """
    named = parse_qs(urlsplit(url).query).get("credentials")
    return {"credential_provider": Credentials(named[0])} if named else {}

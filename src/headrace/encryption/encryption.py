"""The keys of an application: the first encrypts, all decrypt. AES-256-GCM, with a random nonce for each text."""

from __future__ import annotations

import binascii
import hashlib
import importlib
import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from typing import Any, Final

from headrace.errors import InvalidSetting
from headrace.settings import variable

VARIABLE: Final = "HEADRACE_ENCRYPTION_KEYS"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_TOKEN: Final = re.compile(r"([0-9a-f]{8})\.([A-Za-z0-9_-]+)", re.ASCII)
_MAKE: Final = (
    'make one by: python -c "from headrace import Encryption; print(Encryption.generate_key())"'
)


class CannotOpen(Exception):
    """A text cannot be decrypted here: no key fits, or it was changed, or belongs elsewhere. Says why."""


class Encryption:
    """Encrypts what an application sends, and decrypts what comes back: ``Headrace(encryption=…)``.

    A text names its key by an id, so that keys can be changed while jobs wait: put the new key first, and
    take the old one out when nothing is left under it. See docs/encryption.md.

    Args:
        keys: one or more, as ``generate_key`` makes them, or 32 bytes each. The first encrypts, all decrypt.

    Raises:
        InvalidSetting: there is none, or one is no key, or twice there; or ``cryptography`` is missing.
    """

    def __init__(self, keys: Iterable[str | bytes]) -> None:
        given = [keys] if isinstance(keys, str | bytes) else [*keys]
        if not given:
            raise InvalidSetting(f"encryption needs a key; {_MAKE}")
        try:
            aead: Any = importlib.import_module("cryptography.hazmat.primitives.ciphers.aead")
            self._changed: type[Exception] = importlib.import_module(
                "cryptography.exceptions"
            ).InvalidTag
        except ImportError as error:
            raise InvalidSetting(
                f'encryption needs the library cryptography: pip install "headrace[encryption]" ({error})'
            ) from error
        self._ciphers: dict[str, Any] = {}
        for number, key in enumerate(map(_read, given), 1):
            if key is None:  # its text is not quoted: it may be a key but for a letter
                raise InvalidSetting(
                    f"encryption key {number} is not {KEY_BYTES} bytes in base64; {_MAKE}"
                )
            if (key_id := id_of(key)) in self._ciphers:
                raise InvalidSetting(f"encryption key {number} ({key_id}) is there twice")
            self._ciphers[key_id] = aead.AESGCM(key)
        self._first: str = next(iter(self._ciphers))

    @staticmethod
    def generate_key() -> str:
        """Return a new key, as text: keep it where secrets are kept."""
        return urlsafe_b64encode(os.urandom(KEY_BYTES)).decode()

    @property
    def key_ids(self) -> list[str]:
        """The ids of its keys, the one that encrypts first. They tell nothing of the keys."""
        return list(self._ciphers)

    def __repr__(self) -> str:
        """Return it without its keys: a traceback or a log may quote this."""
        return f"Encryption(key_ids={self.key_ids})"

    def __reduce__(self) -> str:
        """Refuse to be pickled: keys do not travel.

        Raises:
            TypeError: always.
        """
        raise TypeError("an Encryption holds keys, and is not pickled")

    def seal(self, text: bytes, about: bytes) -> str:
        """Encrypt a text; it can be decrypted only as what it is ``about``."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + self._ciphers[self._first].encrypt(nonce, text, about)
        return f"{self._first}.{urlsafe_b64encode(sealed).rstrip(b'=').decode()}"

    def open(self, token: object, about: bytes) -> bytes:
        """Decrypt a text.

        Raises:
            CannotOpen: no key fits, or it is not what ``seal`` gave for the same ``about``.
        """
        key_id, sealed = _parts(token)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise CannotOpen(
                f"encrypted under key {key_id}, which is none of those here ({', '.join(self._ciphers)}): "
                f"add it to {VARIABLE}, or to Encryption([…]), behind the first"
            )
        try:
            text: bytes = cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about)
        except self._changed as error:
            raise CannotOpen(
                f"encrypted under key {key_id}, but changed since, or taken from elsewhere"
            ) from error
        return text


def from_environment() -> Encryption | None:
    """Return what the environment says (``HEADRACE_ENCRYPTION_KEYS``, with commas between); None: nothing.

    Raises:
        InvalidSetting: it has no meaning.
    """
    keys = re.split(r"[,\s]+", variable(VARIABLE).strip(", \t\n"))
    try:
        return Encryption(keys) if any(keys) else None
    except InvalidSetting as error:
        raise InvalidSetting(f"{VARIABLE}: {error}") from error.__cause__


def id_of(key: bytes) -> str:
    """Return the id of a key: of a digest of it, so that whoever has the key has the id."""
    return hashlib.sha256(b"headrace key id\0" + key).hexdigest()[:8]


def key_id_of(token: object) -> str:
    """Return which key a text is under; "" if it is none of ours."""
    match = _TOKEN.match(token) if isinstance(token, str) else None
    return match[1] if match else ""


def key_of(token: object) -> str:
    """Return the id of the key under which a text is.

    Raises:
        CannotOpen: it is no text that was encrypted.
    """
    return _parts(token)[0]


def _parts(token: object) -> tuple[str, bytes]:
    match = _TOKEN.fullmatch(token) if isinstance(token, str) else None
    if match is None:
        raise CannotOpen("marked as encrypted, and is no text that was encrypted here")
    text = match[2]
    try:
        sealed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        sealed = b""
    # Spare bits of the last letter are no part of the bytes: one text, one spelling.
    spelt = urlsafe_b64encode(sealed).rstrip(b"=").decode()
    if spelt != text or len(sealed) < NONCE_BYTES + _TAG_BYTES:
        raise CannotOpen(f"encrypted under key {match[1]}, but cut or changed since")
    return match[1], sealed


def _read(key: object) -> bytes | None:
    if isinstance(key, bytes) and len(key) == KEY_BYTES:
        return key
    try:
        text = key.decode("ascii") if isinstance(key, bytes) else key
        assert isinstance(text, str)
        text = text.strip().translate(str.maketrans("+/", "-_")).rstrip("=")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", text, re.ASCII):
            return None
        read = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (AssertionError, ValueError):
        return None
    return read if len(read) == KEY_BYTES else None

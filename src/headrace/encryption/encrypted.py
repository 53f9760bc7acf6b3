"""The part of a task that knows of encryption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NoReturn, TypeAlias

import msgspec

from headrace import plain, results
from headrace.context import Context, current_job
from headrace.encryption.encryption import VARIABLE, CannotOpen, Encryption, key_id_of
from headrace.encryption.opener import Opener
from headrace.encryption.sealing import (
    ENCRYPTED,
    Kind,
    Seal,
    holds_sealed,
    open_call,
    open_within,
    seal_value,
    sealer_of,
)  # fmt: skip
from headrace.errors import InvalidArguments, InvalidSetting, Undecryptable
from headrace.wire import DEFAULT_MAX_BYTES

Misfit: TypeAlias = Literal["invalid_arguments", "undecryptable"]

HIDDEN: Final = "not told, for the job's arguments are encrypted"
"""Stands for the text of whatever a task raises: that may repeat its arguments."""

_MARK: Final = b'"%b":' % ENCRYPTED.encode()

_UNREADABLE: Final = "it does not come back equal from JSON, or is too large when it is encrypted"


class _End(msgspec.Struct, frozen=True):
    """The end of a job that is done, as ``results`` encodes it; what it returned stays as it is."""

    state: Literal["done"]
    value: msgspec.Raw = msgspec.Raw(b"null")
    unreadable: str = ""


_decode_end = msgspec.json.Decoder(_End).decode


class EncryptedTask:
    """What encrypts the arguments and results of a task, and decrypts its jobs' arguments.

    Attributes:
        seal: encrypts the arguments of a call; None: they travel as they are.
    """

    name: str
    encode_result: Callable[[Any], bytes]
    decode_result: Callable[[Any], Any] | None
    _encryption: Encryption | None = None
    _own: tuple[Callable[[Any], bytes], Callable[[Any], Any] | None] | None = None
    seal: Seal | None = None

    def encrypted_by(self, encryption: Encryption | None, *, wanted: bool | None) -> None:
        """Use these keys.

        Args:
            encryption: they; None keeps those that it has.
            wanted: whether to encrypt; None if there are keys.

        Raises:
            InvalidSetting: ``wanted`` is something else.
        """
        if wanted not in (None, True, False):
            raise InvalidSetting(f"encrypted={wanted!r} must be True or False")
        self._encryption = encryption = encryption or self._encryption
        self._own = self._own or (self.encode_result, self.decode_result)
        self.encode_result, self.decode_result = self._own
        self.seal = None
        if encryption is not None:  # what is not encrypted any more may still come encrypted
            self.decode_result = Opener(encryption, task=self.name, decode=self.decode_result)
        if wanted or (wanted is None and encryption is not None):
            self.seal = sealer_of(encryption) or self._no_keys
            self.encode_result = self._encode_sealed

    def opened(
        self, args: Sequence[Any], kwargs: dict[str, Any], job: bytes
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """Return a job's arguments in plain JSON; ``job``: its bytes.

        Raises:
            Undecryptable: no key fits, or they are not this task's.
        """
        if _MARK not in job:
            return args, kwargs
        encryption = self._encryption
        token = kwargs.get(ENCRYPTED) or holds_sealed([*args, kwargs])
        if not token:
            return args, kwargs
        if encryption is None:
            missing = LookupError("no keys")
            raise self._undecryptable(
                f"encrypted under key {key_id_of(token)}, and this consumer has no keys: give it {VARIABLE}, "
                "or Headrace(encryption=…)"
            ) from missing
        try:
            if ENCRYPTED in kwargs:
                return open_call(encryption, self.name, kwargs)
            args, kwargs = open_within(encryption, [[*args], kwargs])
        except CannotOpen as error:
            raise self._undecryptable(str(error)) from error
        return args, kwargs

    def sealed_item(self, raw: bytes) -> bytes:
        """Return as JSON what stands in place of an item that is this JSON."""
        return raw if self.seal is None else self._sealed("item", raw)

    def misfit(self, error: BaseException) -> Misfit | None:
        """Return why a job is dead whose arguments its function did not take; None for all else.

        An exception of this kind that the task itself got, when it enqueued another job, has no cause.
        """
        # By type first, and by identity: a task's own exceptions and their classes may define anything.
        if type(error) is Undecryptable and error.__cause__ is not None:
            return "undecryptable"
        unfit = type(error) is InvalidArguments and error.__cause__ is not None
        return "invalid_arguments" if unfit else None

    def told(self, error: BaseException, job: bytes) -> BaseException:
        """Return a plain copy of what a run has raised as others may see it.

        Args:
            error: the copy.
            job: its bytes: in those of a task that is not encrypted results of others may stand that are.
        """
        encrypted = self.seal is not None or _MARK in job
        return _without_texts(error) if encrypted and not _is_ours(error) else error

    def _encode_sealed(self, value: Any) -> bytes:
        assert self._own is not None
        end = _decode_end(self._own[0](value))
        if end.unreadable or self._encryption is None:  # why that is may quote it
            return results.encode_unreadable(None, _UNREADABLE)
        sealed = b'{"state":"done","value":%b}' % self._sealed("result", bytes(end.value))
        if len(sealed) > DEFAULT_MAX_BYTES:
            return results.encode_unreadable(None, _UNREADABLE)
        return sealed

    def _sealed(self, kind: Kind, raw: bytes) -> bytes:
        context: Context | None = current_job.get()
        assert self._encryption is not None
        job_id = "" if context is None else context.job_id
        return seal_value(self._encryption, kind, self.name, job_id, raw)

    def _no_keys(self, *_: object) -> NoReturn:
        raise InvalidSetting(
            f"task {self.name!r} is encrypted=True, and there are no keys: set {VARIABLE}, or make the "
            "application with Headrace(encryption=Encryption([…]))"
        )

    def _undecryptable(self, why: str) -> Undecryptable:
        return Undecryptable(
            f"the arguments of {self.name!r} are {why}. Nothing of the job is lost: then put it back by "
            "headrace dlq redrive --reason undecryptable"
        )


def _is_ours(error: BaseException) -> bool:
    """Whether a copy is of what ``opened`` raises: its text quotes nothing."""
    kind = type(error)
    return (kind.__module__, kind.__qualname__) == (Undecryptable.__module__, "Undecryptable")


def _without_texts(copy: BaseException, left: int = 50) -> BaseException:
    """Return a plain copy with its class, its traceback and its causes, and none of their texts."""
    kind = type(copy)
    members = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    bare = plain.make(kind.__name__, HIDDEN, **members)
    bare.__traceback__ = copy.__traceback__
    bare.__suppress_context__ = copy.__suppress_context__
    if left and copy.__cause__ is not None:
        bare.__cause__ = _without_texts(copy.__cause__, left - 1)
        bare.__suppress_context__ = copy.__suppress_context__
    if left and copy.__context__ is not None:
        bare.__context__ = _without_texts(copy.__context__, left - 1)
    return bare

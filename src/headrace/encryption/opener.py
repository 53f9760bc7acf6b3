"""Opens what tasks have returned or yielded, for whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.encryption.encryption import CannotOpen, Encryption, key_id_of
from headrace.encryption.sealing import ENCRYPTED, Kind, is_sealed, open_value
from headrace.errors import NoResult

Decode = Callable[[Any], Any]


class Opener:
    """Makes of what stands in Redis what a task has returned; what is not encrypted passes through it.

    Args:
        encryption: the keys.
        task: whose results it opens; "" of any.
        decode: makes of plain JSON what the function returned; None when it is that.
        job_id: of which job; "" of any.
    """

    __slots__ = ("_decode", "_encryption", "_job_id", "_task")

    def __init__(
        self,
        encryption: Encryption,
        *,
        task: str = "",
        decode: Decode | None = None,
        job_id: str = "",
    ) -> None:
        self._encryption = encryption
        self._task = task
        self._decode = decode
        self._job_id = job_id

    def of(self, job_id: str) -> Opener:
        """Return one for the results of this job alone."""
        return Opener(self._encryption, task=self._task, decode=self._decode, job_id=job_id)

    def __call__(self, value: Any) -> Any:
        """Return what the function returned.

        Raises:
            NoResult: it cannot be decrypted here, or does not fit its annotation.
        """
        plain = self._opened("result", value)
        return plain if self._decode is None else self._decode(plain)

    def item(self, value: Any) -> Any:
        """Return what the function has yielded; raises as a call does."""
        plain = self._opened("item", value)
        item: Decode | None = getattr(self._decode, "item", None)
        return plain if item is None else item(plain)

    def _opened(self, kind: Kind, value: Any) -> Any:
        if type(value) is list:  # of a workflow
            return [self._opened(kind, one) if is_sealed(one) else one for one in value]
        if not is_sealed(value):
            return value
        if self._task not in ("", value["task"]) or self._job_id not in ("", value["job"]):
            raise NoResult(f"this is the {kind} of another job, {value['job']!r:.140}")
        try:
            return open_value(self._encryption, kind, value)
        except CannotOpen as error:
            raise NoResult(f"the {kind} of job {value['job']!r:.140} is {error}") from error


def opener_of(encryption: Encryption | None) -> Opener | None:
    """Return what opens the results of any task; None without keys."""
    return None if encryption is None else Opener(encryption)


def for_job(decode: Decode, job_id: str) -> Decode:
    """Return what decodes the result of one job, and of no other."""
    return decode.of(job_id) if isinstance(decode, Opener) else decode


def refused(value: Any) -> Any:
    """Return a result where there are no keys.

    Raises:
        NoResult: it is encrypted.
    """
    if is_sealed(value):
        raise NoResult(
            f"the result is encrypted under key {key_id_of(value[ENCRYPTED])}, and there are no keys here: "
            "an application that has them reads it (docs/encryption.md)"
        )
    return value


def refused_of_workflow(value: Any) -> Any:
    """Return the results of a workflow where there are no keys, as ``refused`` does."""
    return [*map(refused, value)] if type(value) is list else refused(value)

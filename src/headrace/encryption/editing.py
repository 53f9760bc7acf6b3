"""Other arguments for a job whose arguments are encrypted: a dead letter that somebody edits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.encryption.encryption import VARIABLE, Encryption
from headrace.encryption.sealing import ENCRYPTED, refuse_unsealed, seal_call
from headrace.errors import InvalidJob


def edited_call(
    encryption: Encryption | None,
    task: str,
    before: Mapping[str, Any],
    changes: Mapping[str, Any],
) -> Mapping[str, Any]:
    """Return the changed arguments as they stand in the job: encrypted, if they were before.

    Args:
        encryption: the keys of whoever edits.
        task: the job's task.
        before: its fields.
        changes: ``args`` and ``kwargs`` that are to be others, as they were typed.

    Raises:
        InvalidJob: they cannot be encrypted here, or are not all of the arguments.
    """
    if not changes or not is_encrypted(before):
        return changes
    args, new = changes.get("args", []), changes.get("kwargs")
    # Of the text nothing can be kept: it stands for all arguments, and would win over what is beside it.
    if new is None or (args and ENCRYPTED in new):
        raise InvalidJob(
            "its arguments are encrypted as a whole: give all of them anew, args and kwargs ({} for none)"
        )
    if encryption is not None:
        args, new = seal_call(encryption, task, tuple(args), new)
    elif ENCRYPTED in new:
        refuse_unsealed(None, task, tuple(args), new)
    else:
        raise InvalidJob(
            "its arguments are encrypted, and the new ones would be in the clear, for this server has no keys: "
            f"give it {VARIABLE}, put the letter back as it is, or enqueue a new job where the keys are"
        )
    return {"args": list(args), "kwargs": new}


def is_encrypted(fields: Mapping[str, Any]) -> bool:
    """Whether the arguments of a job with these fields are encrypted."""
    kwargs = fields.get("kwargs")
    return isinstance(kwargs, dict) and ENCRYPTED in kwargs

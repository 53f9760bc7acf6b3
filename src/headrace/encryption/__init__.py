"""Arguments and results that only the application can read: encrypted before they leave it.

    app = Headrace(encryption=Encryption([key, old_key]))

What stands in Redis, and whatever is shown of it, is text under a key that neither Redis nor an operator
has. ``cryptography`` (the extra ``headrace[encryption]``) is imported when there is a key, and not before.
"""

from headrace.encryption.editing import edited_call, is_encrypted
from headrace.encryption.encrypted import EncryptedTask, Misfit
from headrace.encryption.encryption import Encryption, from_environment
from headrace.encryption.opener import Opener, for_job, opener_of, refused, refused_of_workflow
from headrace.encryption.sealing import ENCRYPTED, Seal, sealer_of

__all__ = [
    "ENCRYPTED",
    "EncryptedTask",
    "Encryption",
    "Misfit",
    "Opener",
    "Seal",
    "edited_call",
    "for_job",
    "from_environment",
    "is_encrypted",
    "opener_of",
    "refused",
    "refused_of_workflow",
    "sealer_of",
]

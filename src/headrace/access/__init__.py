"""Who may do what at the server: tokens, each with a role and perhaps with queues of its own."""

from headrace.access.rights import ALL, ANYBODY, ROLES, Right, Role, Who
from headrace.access.tokens import Tokens, digest_of, new_token

__all__ = ["ALL", "ANYBODY", "ROLES", "Right", "Role", "Tokens", "Who", "digest_of", "new_token"]

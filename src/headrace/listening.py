"""Listen on a TCP port, for the server and for probes."""

from __future__ import annotations

import socket

from headrace.errors import InvalidSetting


def listen(host: str, port: int, what: str) -> socket.socket:
    """Begin to listen.

    Args:
        host: an address of this machine.
        port: a TCP port; 0 for a free one.
        what: what an error calls the port.

    Raises:
        InvalidSetting: it cannot be had.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InvalidSetting(
            f"{what} {port} of {host} cannot be had ({error}): end the program that has it, or give "
            "another port"
        ) from error

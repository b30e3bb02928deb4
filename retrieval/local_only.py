"""Local only: from `keep_local` on, a connection to another machine is an error, whichever library tries it.

It holds for this process and for the processes that it starts, which see the environment variable. It watches the sockets
of Python (an audit hook); of what brings its own network code, such as the hub's download library, it turns the documented
switches off. It guards against surprises, not against a library that means harm.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Mapping
from typing import Any

from colsearcher.indexes.errors import UserError

VARIABLE = "COLSEARCHER_LOCAL"

_SWITCHES = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
# Who asks for the address of a name is about to connect to it.
_EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")

_watching = False


class NotLocal(UserError):
    """Something wanted to reach another machine although only this one is allowed."""


def is_local_only(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment variable asks for it: anything but nothing, 0, no and false."""
    return environment.get(VARIABLE, "").strip().lower() not in ("", "0", "no", "false")


def keep_local() -> None:
    """Refuse every connection to another machine from now on. Call it before a model library is imported."""
    global _watching
    os.environ[VARIABLE] = "1"
    os.environ.update(_SWITCHES)
    if not _watching:
        _watching = True
        sys.addaudithook(_watch)


def require_local(host: str) -> None:
    """Refuse a host that is not this machine.

    Raises:
        NotLocal: it is another one.
    """
    if not is_loopback(host):
        raise NotLocal(
            f"A connection to «{host}» was refused because only this machine is allowed; "
            f"leave --local out (or unset {VARIABLE}), or name something that lies here."
        )


def is_loopback(host: str) -> bool:
    """
    >>> [is_loopback(host) for host in ("localhost", "127.8.0.1", "::1", "", "example.org", "10.0.0.1")]
    [True, True, True, True, False, False]
    """
    name = host.strip("[]").rstrip(".").lower()
    if name in ("", "localhost") or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if event in _EVENTS and is_local_only():
        host = _host(event, args)
        if host is not None:
            require_local(host)


def _host(event: str, args: tuple[Any, ...]) -> str | None:
    """Where an event goes; None where it stays on this machine by its kind: a Unix socket, a socket that is connected."""
    place = args[0] if event in ("socket.getaddrinfo", "socket.gethostbyname") else args[1]
    if isinstance(place, tuple):
        place = place[0] if place else None
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        return None  # the path of a Unix socket
    if isinstance(place, bytes):
        place = place.decode("ascii", "replace")
    return place if isinstance(place, str) else None

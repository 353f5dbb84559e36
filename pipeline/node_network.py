"""The network between the nodes of a run: over which interface ranks meet, and whether node 0 can be reached at all."""

import os
import socket

import psutil

INTERFACE = "GLOO_SOCKET_IFNAME"
"""Environment variable: over which network interface the CPU ranks of torch talk."""
PROBE_SECONDS = 3.0
"""How long node 0 may take to answer."""


def interface_towards(address: str) -> str | None:
    """Name of this machine's interface on the way to an address; None where there is no way, or no such interface.

    Left alone, gloo takes the interface that this machine's own name stands for: on many machines the loopback, where
    no other node can come.
    """
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(target)  # sends nothing: the kernel only chooses a way
            mine = probe.getsockname()[0]
    except OSError:
        return None
    found = psutil.net_if_addrs().items()
    return next((name for name, addresses in found if mine in (one.address for one in addresses)), None)


def network_environment(address: str) -> dict[str, str]:
    """What ranks need to find those of other nodes, where nothing outside says it."""
    name = None if INTERFACE in os.environ else interface_towards(address)
    return {INTERFACE: name} if name else {}


def unreachable(address: str, port: int) -> str | None:
    """Why the meeting point of the ranks cannot be reached from here; None when it can."""
    try:
        socket.create_connection((address, port), timeout=PROBE_SECONDS).close()
    except ConnectionRefusedError:
        return None  # its machine answers; that no rank listens any more has another cause
    except OSError as error:
        return error.strerror or "no answer"
    return None

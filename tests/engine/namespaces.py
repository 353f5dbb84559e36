"""Two "machines" with a cable between them: network namespaces of this one, joined by a pair of virtual interfaces."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """A namespace with one interface besides its loopback."""

    name: str
    interface: str
    address: str

    @property
    def prefix(self) -> list[str]:
        """What stands before a command that runs there."""
        return ["ip", "netns", "exec", self.name]

    def cable(self, state: str) -> None:
        """`down` cuts it: packets are lost without a word, as from a machine that has lost power."""
        _ip("-n", self.name, "link", "set", self.interface, state)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=20)


def missing() -> str | None:
    """Why there can be no namespaces here; None when there can."""
    if shutil.which("ip") is None:
        return "no `ip` on this machine (iproute2)"
    probe = f"ptp{os.getpid()}"
    try:
        _ip("netns", "add", probe)
        _ip("netns", "del", probe)
    except subprocess.CalledProcessError as error:
        return f"not permitted: {error.stderr.strip()}"
    return None


@contextlib.contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Both, with a cable; taken away at the end. Raises CalledProcessError where `missing` says why."""
    names = [f"pt{os.getpid()}{letter}" for letter in "ab"]
    pair = tuple(Machine(name, name, f"10.213.77.{number}") for number, name in enumerate(names, start=1))
    try:
        for one in pair:
            _ip("netns", "add", one.name)
        _ip("link", "add", names[0], "netns", names[0], "type", "veth", "peer", "name", names[1], "netns", names[1])
        for one in pair:
            _ip("-n", one.name, "address", "add", f"{one.address}/24", "dev", one.interface)
            _ip("-n", one.name, "link", "set", "lo", "up")
            one.cable("up")
        yield pair[0], pair[1]
    finally:
        for one in pair:
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", one.name)

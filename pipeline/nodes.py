"""Several machines in one run: the pipeline runs once on each, and this says who waits for whom.

Node 0 does what is done once; the others wait for it, and all train together. They meet through files in the run's
folder, which every node must see:

    nodes/hello-<rank>.json            each node's name, code and plan; rewritten every second, which is its heartbeat
    nodes/session.json                 written by node 0 when all have come: who belongs together, or why not
    nodes/<session>/start-<n>.json     node 0: training of step n begins; where its ranks meet
    nodes/<session>/passed-<n>.json    node 0: step n is finished (or was cached)
    nodes/<session>/failed-<rank>.json a node stopped, and why

No clock is compared between machines: a heartbeat is a counter that must change while the reader's own clock runs.
Every node proves by a number of its own that a session is meant for it, so files of an earlier try mislead nobody.
"""

import contextlib
import os
import platform
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.artifacts import read_json, write_json
from pipeline.config import LaunchConfig
from pipeline.errors import ConfigError, Preempted, ProvetuneError, StageFailed
from pipeline.provenance import environment

BEAT_SECONDS = 1.0
POLL_SECONDS = 0.1
NEXT = "start the same command again on all nodes; it continues from the last checkpoint"


def rank_of(launch: LaunchConfig) -> int:
    """Which node this is. Raises ConfigError when nothing says it."""
    rank = launch.node_rank if launch.node_rank is not None else os.environ.get("SLURM_NODEID")
    if rank is None:
        raise ConfigError(f"launch.node_rank: not set; give each of the {launch.nodes} nodes its number, from 0")
    if not 0 <= int(rank) < launch.nodes:
        raise ConfigError(f"SLURM_NODEID: {rank}, but launch.nodes is {launch.nodes}; give the allocation as many")
    return int(rank)


def identity(fingerprints: list[str]) -> dict[str, Any]:
    """What must be equal on all nodes: code, packages, and the plan that follows from configuration and data."""
    around = environment(0)
    packages = {f"package {name}": version for name, version in around["packages"].items()}
    git = {f"git {name}": str(value) for name, value in (around["git"] or {}).items()}
    plan = {"plan": " ".join(fingerprints)}
    return {"provetune": __version__, "Python": platform.python_version(), **packages, **git, **plan}


class Nodes:
    """This node among the others. Use as a context manager: its heart beats from `join` on."""

    def __init__(self, launch: LaunchConfig, folder: Path, own: Mapping[str, Any]):
        self.launch, self.rank, self.host = launch, rank_of(launch), socket.gethostname()
        self._folder, self._own, self._nonce = folder, dict(own), uuid.uuid4().hex
        self._stop, self._count = threading.Event(), 0
        self._heard: dict[int, tuple[int, float]] = {}
        self._names: dict[int, str] = {self.rank: self.host}
        self.session: Path | None = None

    def __enter__(self) -> "Nodes":
        self._beat()
        threading.Thread(target=self._keep_beating, daemon=True).start()
        try:
            self._join()
        except BaseException:
            self._stop.set()
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if error is not None:
            self.fail(str(error) or type(error).__name__, isinstance(error, Preempted))
        self._stop.set()

    def _beat(self) -> None:
        self._count += 1
        hello = {"host": self.host, "nonce": self._nonce, "count": self._count, "identity": self._own}
        write_json(self._folder / f"hello-{self.rank}.json", hello)

    def _keep_beating(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # a full disk or a lost mount: the others will miss the beat
                self._beat()

    def _join(self) -> None:
        """Until all have come, or node_wait is over."""
        deadline = time.monotonic() + self.launch.node_wait
        while not (self._gather() if self.rank == 0 else self._accepted()):
            if time.monotonic() >= deadline:
                absent = sorted(set(range(self.launch.nodes)) - set(self._names)) if self.rank == 0 else [0]
                raise StageFailed(
                    f"nodes {absent} have not come within {self.launch.node_wait:g} s (launch.node_wait); "
                    f"are they running, and is {self._folder} the same folder for them?"
                )
            time.sleep(POLL_SECONDS)

    def _gather(self) -> bool:
        """Node 0: every other node's counter has moved; then compare, and open the session."""
        hellos: dict[int, Any] = {}
        for rank in range(1, self.launch.nodes):
            hello = _read(self._folder / f"hello-{rank}.json")
            if hello is None:
                return False
            count, _ = self._heard.setdefault(rank, (hello["count"], time.monotonic()))
            if count == hello["count"]:
                return False  # perhaps left by an earlier try
            hellos[rank] = hello
            self._names[rank] = hello["host"]
        refused = next(filter(None, (self._difference(rank, hello) for rank, hello in hellos.items())), None)
        name = uuid.uuid4().hex[:12]
        nonces = {str(rank): hello["nonce"] for rank, hello in hellos.items()}
        (self._folder / name).mkdir()
        write_json(
            self._folder / "session.json",
            {"session": name, "nonces": nonces, "refused": refused, "hosts": {"0": self.host}},
        )
        if refused is not None:
            raise ConfigError(refused)
        self._open(name)
        return True

    def _difference(self, rank: int, hello: Mapping[str, Any]) -> str | None:
        """The first thing in which a node differs from node 0."""
        theirs = hello["identity"]
        for key in sorted({*self._own, *theirs}, key=lambda key: key == "plan"):
            if self._own.get(key) != theirs.get(key):
                what = f"{key} is {theirs.get(key)}, on node 0 ({self.host}) {self._own.get(key)}"
                return f"node {rank} ({hello['host']}): {what}; all nodes need the same code, configuration and data"
        return None

    def _accepted(self) -> bool:
        session = _read(self._folder / "session.json")
        if session is None or session["nonces"].get(str(self.rank)) != self._nonce:
            return False
        if session["refused"] is not None:
            raise ConfigError(session["refused"])
        self._names |= {int(rank): host for rank, host in session["hosts"].items()}
        self._open(session["session"])
        return True

    def _open(self, name: str) -> None:
        self.session = self._folder / name
        self._heard = {}

    def check(self) -> None:
        """Raise StageFailed, with the node's name, when another node has stopped or has fallen silent."""
        assert self.session is not None
        for rank in range(self.launch.nodes):
            if rank == self.rank:
                continue
            failed = _read(self.session / f"failed-{rank}.json")
            if failed is not None:
                kind = Preempted if failed["preempted"] else StageFailed
                raise kind(f"node {rank} ({failed['host']}) stopped: {failed['message']}")
            hello = _read(self._folder / f"hello-{rank}.json")
            now, count = time.monotonic(), hello["count"] if hello else -1
            if hello:
                self._names[rank] = hello["host"]
            heard, moment = self._heard.get(rank, (None, now))
            if count != heard:
                self._heard[rank] = (count, now)
            elif now - moment >= self.launch.node_timeout:
                name = self._names.get(rank, "unknown")
                raise StageFailed(
                    f"node {rank} ({name}) has given no sign of life for {self.launch.node_timeout:g} s; {NEXT}"
                )

    def blame(self, error: ProvetuneError, patience: float = 0.0) -> ProvetuneError:
        """The root of a failed training: ranks here may only have lost their connection to a node that died.

        `patience`: seconds that every node has for finding out more, before this one's own error is the root.
        """
        began = time.monotonic()
        deadline = began + max(patience, self.launch.node_timeout + 2 * BEAT_SECONDS)
        while time.monotonic() < deadline:
            try:
                self.check()
            except ProvetuneError as root:
                return root
            if self._all_beat_twice() and time.monotonic() - began >= patience:
                break
            time.sleep(POLL_SECONDS)
        return error

    def _all_beat_twice(self) -> bool:
        """Whether every other node has been heard anew since this was first asked."""
        seen = getattr(self, "_seen_at_failure", None)
        if seen is None:
            self._seen_at_failure = seen = {rank: count for rank, (count, _) in self._heard.items()}
        return all(count >= seen.get(rank, 0) + 2 for rank, (count, _) in self._heard.items())

    def tell(self, name: str, **values: Any) -> None:
        """Node 0: publish an order."""
        assert self.session is not None
        write_json(self.session / f"{name}.json", values)

    def wait_for(self, *names: str) -> tuple[str, dict[str, Any]]:
        """Until one of the orders is there; raises StageFailed when a node stops or dies meanwhile."""
        assert self.session is not None
        while True:
            for name in names:
                order = _read(self.session / f"{name}.json")
                if order is not None:
                    return name, order
            self.check()
            time.sleep(POLL_SECONDS)

    def fail(self, message: str, preempted: bool = False) -> None:
        """Tell the others why this node stops."""
        if self.session is not None:
            with contextlib.suppress(OSError):
                write_json(
                    self.session / f"failed-{self.rank}.json",
                    {"host": self.host, "message": message, "preempted": preempted},
                )

    def meeting_point(self) -> dict[str, Any]:
        """Where the ranks of all nodes find each other: this node's name and a free port."""
        with socket.socket() as free:
            free.bind(("", 0))
            return {"address": self.launch.node_address or self.host, "port": free.getsockname()[1]}


def _read(path: Path) -> Any:
    """A file's value, None while it is not (wholly) there."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def watching(nodes: Nodes, kill: Any) -> Iterator[None]:
    """While ranks train: call `kill` as soon as another node stops or dies."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(2 * POLL_SECONDS):
            try:
                nodes.check()
            except ProvetuneError:
                kill()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

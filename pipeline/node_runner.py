"""A run on several machines: node 0 runs the plan, the others wait, and training nodes run on the ranks of all."""

import contextlib
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import yaml

from pipeline.accelerate_file import config_file, write_config_file
from pipeline.artifacts import read_json
from pipeline.config import LaunchConfig
from pipeline.console import Display
from pipeline.errors import Preempted, ProvetuneError, StageFailed
from pipeline.launch import LAUNCHED, NO_LOGS, Workers, worker_environment
from pipeline.node_network import PROBE_SECONDS, network_environment, unreachable
from pipeline.nodes import NEXT, Nodes, watching
from pipeline.parallel_config import environment_of
from pipeline.plan import Plan, Step
from pipeline.preemption import HEEDED, deaf
from pipeline.progress import EVENTS, EventReader
from pipeline.supervise import Finished, OnEvent, end_family, end_of_ranks, follow


def node_command(launch: LaunchConfig, rank: int, meeting: dict[str, Any], folder: Path) -> list[str]:
    """The command that runs this machine's share of the ranks."""
    worker = ["-m", "pipeline.worker", str(folder)]
    address, port = str(meeting["address"]), str(meeting["port"])
    if launch.on_gpus:
        accelerate = [*LAUNCHED, "accelerate.commands.launch", "--num_processes", str(launch.processes)]
        accelerate += [*NO_LOGS, "--config_file", str(config_file(launch, folder))]
        machines = ["--num_machines", str(launch.nodes), "--machine_rank", str(rank)]
        return [*accelerate, *machines, "--main_process_ip", address, "--main_process_port", port, *worker]
    torchrun = [*LAUNCHED, "torch.distributed.run", *NO_LOGS, "--max-restarts", "0"]
    machines = ["--nnodes", str(launch.nodes), "--node-rank", str(rank)]
    meet = ["--master-addr", address, "--master-port", port]
    return [*torchrun, *machines, *meet, "--nproc-per-node", str(launch.processes // launch.nodes), *worker]


class NodeWorkers(Workers):
    """As Workers, but ranks are spread over the nodes."""

    def __init__(self, launch: LaunchConfig, nodes: Nodes):
        super().__init__(launch)
        self._nodes = nodes
        self.step = 0
        """Number of the step that runs."""

    def _run_ranks(self, folder: Path, events: EventReader, on_event: OnEvent) -> Finished:
        if self._launch.on_gpus:
            (folder / "logs").mkdir(exist_ok=True)
            write_config_file(self._launch, folder)
        meeting = self._nodes.meeting_point()
        self._nodes.tell(f"start-{self.step}", folder=str(folder.absolute()), events=events.offset, **meeting)
        return run_share(self._launch, self._nodes, meeting, folder, events, on_event)


def run_share(
    launch: LaunchConfig, nodes: Nodes, meeting: dict[str, Any], folder: Path, events: EventReader, on_event: OnEvent
) -> Finished:
    """This node's ranks of a training, until all ranks everywhere are done. Its error names the node at fault."""
    log_file = folder / "logs" / "launcher.log"
    log_file = log_file if nodes.rank == 0 else log_file.with_name(f"launcher-node{nodes.rank}.log")
    log_file.parent.mkdir(exist_ok=True)
    with log_file.open("wb") as log:
        with deaf(signal.SIGINT, *HEEDED):
            child = subprocess.Popen(
                node_command(launch, nodes.rank, meeting, folder.absolute()),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=worker_environment(launch.processes // launch.nodes, launch.hang_timeout)
                | environment_of(launch)
                | network_environment(meeting["address"]),
                text=True,
            )
        try:
            with watching(nodes, child.kill):
                finished = follow(
                    child, folder, events, launch.processes, on_event, end_of_ranks, launch.hang_timeout, patient=True
                )
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=30)
            return finished
        except Preempted:
            raise
        except ProvetuneError as error:
            raise _root(error, nodes, meeting) from None
        finally:
            end_family(child)


def _root(error: ProvetuneError, nodes: Nodes, meeting: dict[str, Any]) -> ProvetuneError:
    """What is behind the error of this node's ranks: the network, another node, or they themselves."""
    cut = unreachable(meeting["address"], meeting["port"]) if nodes.rank else None
    if cut is None:
        return nodes.blame(error, patience=2 * PROBE_SECONDS)  # another node may be the one that is cut off
    return StageFailed(
        f"node {nodes.rank} ({nodes.host}) cannot reach node 0 at {meeting['address']}:{meeting['port']} ({cut}); "
        f"look at the network between them (launch.node_address), then {NEXT}"
    )


def follow_node_0(plan: Plan, nodes: Nodes, display: Display) -> None:
    """What a node other than 0 does: wait for each step, and take part in the trainings."""
    for number, step in enumerate(plan.steps):
        order, values = nodes.wait_for(f"passed-{number}", f"start-{number}")
        if order.startswith("start"):
            _take_part(step, values, plan.config.launch, nodes, display)
            nodes.wait_for(f"passed-{number}")


def await_visible(step: Step, folder: Path, nodes: Nodes) -> None:
    """Until this machine sees what node 0 has written: a shared file system may show it later than the order to start.

    Raises StageFailed with the file that did not appear within `launch.node_wait`.
    """
    deadline = time.monotonic() + nodes.launch.node_wait
    while (absent := _not_yet_visible(step, folder)) is not None:
        nodes.check()
        if time.monotonic() >= deadline:
            raise StageFailed(
                f"{absent}: written by node 0, but not to be seen on this node ({nodes.host}) within "
                f"{nodes.launch.node_wait:g} s (launch.node_wait); is outputs on a file system that all nodes share?"
            )
        time.sleep(0.1)


def _not_yet_visible(step: Step, folder: Path) -> Path | None:
    """The first file that is missing: the stage's own order, or a file of an input."""
    try:
        stage = yaml.safe_load((folder / "stage.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return folder / "stage.yaml"
    if not stage or stage["fingerprint"] != step.node.fingerprint:
        return folder / "stage.yaml"
    for output in step.node.inputs.values():
        made = folder.parents[1] / output.node.kind / output.node.fingerprint
        try:
            sealed = read_json(made / "done.json")["files"]
        except (OSError, ValueError):
            return made / "done.json"
        for name in sealed:
            if not (made / name).exists():
                return made / name
    return None


def _take_part(step: Step, order: dict[str, Any], launch: LaunchConfig, nodes: Nodes, display: Display) -> None:
    folder = Path(order["folder"])
    display.start(step.node.name)
    await_visible(step, folder, nodes)
    # Node 0 says where the events of this try begin: a size read here may be an old one.
    events = EventReader(folder / "logs" / EVENTS, order["events"])
    run_share(launch, nodes, order, folder, events, display.event)
    display.finish(step.node.name, "ran", f"this node's share ({nodes.host})")

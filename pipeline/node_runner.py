"""A run on several machines: node 0 runs the plan, the others wait, and training nodes run on the ranks of all."""

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.accelerate_file import config_file, write_config_file
from pipeline.config import LaunchConfig
from pipeline.console import Display
from pipeline.errors import ProvetuneError
from pipeline.launch import (
    Finished,
    OnEvent,
    Workers,
    deaf_to_interrupts,
    end_of_ranks,
    follow,
    worker_environment,
)
from pipeline.nodes import Nodes, watching
from pipeline.plan import Plan, Step
from pipeline.progress import EVENTS, EventReader


def node_command(launch: LaunchConfig, rank: int, meeting: dict[str, Any], folder: Path) -> list[str]:
    """The command that runs this machine's share of the ranks."""
    worker = ["-m", "pipeline.worker", str(folder)]
    address, port = str(meeting["address"]), str(meeting["port"])
    if launch.on_gpus:
        accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(launch.processes)]
        accelerate += ["--config_file", str(config_file(launch, folder))]
        machines = ["--num_machines", str(launch.nodes), "--machine_rank", str(rank)]
        return [*accelerate, *machines, "--main_process_ip", address, "--main_process_port", port, *worker]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--max-restarts", "0"]
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
        self._nodes.tell(f"start-{self.step}", folder=str(folder.absolute()), **meeting)
        return run_share(self._launch, self._nodes, meeting, folder, events, on_event)


def run_share(
    launch: LaunchConfig, nodes: Nodes, meeting: dict[str, Any], folder: Path, events: EventReader, on_event: OnEvent
) -> Finished:
    """This node's ranks of a training, until all ranks everywhere are done. Its error names the node at fault."""
    log_file = folder / "logs" / "launcher.log"
    log_file = log_file if nodes.rank == 0 else log_file.with_name(f"launcher-node{nodes.rank}.log")
    log_file.parent.mkdir(exist_ok=True)
    with log_file.open("wb") as log:
        with deaf_to_interrupts():
            child = subprocess.Popen(
                node_command(launch, nodes.rank, meeting, folder.absolute()),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=worker_environment(launch.processes // launch.nodes),
                text=True,
            )
        try:
            with watching(nodes, child.kill):
                finished = follow(child, folder, events, launch.processes, on_event, end_of_ranks)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=30)
            return finished
        except ProvetuneError as error:
            raise nodes.blame(error) from None
        finally:
            child.kill()  # its ranks end with it
            child.wait()


def follow_node_0(plan: Plan, nodes: Nodes, display: Display) -> None:
    """What a node other than 0 does: wait for each step, and take part in the trainings."""
    for number, step in enumerate(plan.steps):
        order, values = nodes.wait_for(f"passed-{number}", f"start-{number}")
        if order.startswith("start"):
            _take_part(step, values, plan.config.launch, nodes, display)
            nodes.wait_for(f"passed-{number}")


def _take_part(step: Step, order: dict[str, Any], launch: LaunchConfig, nodes: Nodes, display: Display) -> None:
    folder = Path(order["folder"])
    display.start(step.node.name)
    run_share(launch, nodes, order, folder, EventReader(folder / "logs" / EVENTS), display.event)
    display.finish(step.node.name, "ran", f"this node's share ({nodes.host})")

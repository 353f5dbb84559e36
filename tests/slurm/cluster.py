"""A Slurm cluster of two nodes on this machine, for tests: `python -m tests.slurm.cluster start|stop FOLDER`.

Needs root and Debian's slurm-wlm and munge (`apt-get install slurm-wlm munge`). Everything it writes lies in FOLDER;
what it started is ended by process id.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

NODES = ("n1", "n2")
PORTS = {"slurmctld": 16817, "n1": 17001, "n2": 17002}
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "squeue")

CONF = """\
ClusterName=provetune
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
SlurmdLogFile={folder}/slurmd-%n.log
KillWait=5
MinJobAge=300
SchedulerParameters=batch_sched_delay=0,sched_interval=1
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={n1} CPUs=1 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={n2} CPUs=1 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why no cluster can be started here; None when it can."""
    absent = [name for name in NEEDED if find(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (apt-get install slurm-wlm munge)"
    return None if os.geteuid() == 0 else "needs root"


def find(name: str) -> str | None:
    """A program, also of the administrator's folders."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def start(folder: Path) -> dict[str, str]:
    """Start munge, the controller and both nodes; the environment in which Slurm's commands find them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir(exist_ok=True)
    conf = folder / "slurm.conf"
    host = socket.gethostname()
    ports = {"controller": PORTS["slurmctld"], "n1": PORTS["n1"], "n2": PORTS["n2"]}
    conf.write_text(CONF.format(host=host, folder=folder, **ports), encoding="utf-8")
    _munge(folder)
    environment = os.environ | {"SLURM_CONF": str(conf)}
    _daemon(folder, "slurmctld", ["slurmctld", "-D", "-i", "-f", str(conf)], environment)
    for node in NODES:
        _daemon(folder, node, ["slurmd", "-D", "-N", node, "-f", str(conf)], environment)
    _wait_until_idle(environment, folder)
    return {"SLURM_CONF": str(conf)}


@contextlib.contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """A cluster for the time of a block; the environment in which Slurm's commands find it."""
    try:
        yield start(folder)
    finally:
        stop(folder)
        assert not list(folder.glob("*.started"))


def _munge(folder: Path) -> None:
    """munged with a key and a socket of its own. It refuses files that others could change, so it runs as root."""
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    files = [
        f"--{option}={folder}/munge.{name}"
        for option, name in {
            "key-file": "key",
            "socket": "socket",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
        }.items()
    ]
    _daemon(folder, "munged", ["munged", "--foreground", "--force", *files], dict(os.environ))
    deadline = time.monotonic() + 20
    while not (folder / "munge.socket").exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"munged did not start: {(folder / 'munged.out').read_text()}")
        time.sleep(0.1)


def _daemon(folder: Path, name: str, command: list[str], environment: dict[str, str]) -> None:
    program = find(command[0])
    assert program is not None
    with (folder / f"{name}.out").open("wb") as log:
        process = subprocess.Popen(
            [program, *command[1:]], stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    (folder / f"{name}.started").write_text(str(process.pid), encoding="utf-8")


def _wait_until_idle(environment: dict[str, str], folder: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        answer = subprocess.run(
            ["sinfo", "-h", "-N", "-o", "%t"], capture_output=True, text=True, env=environment, check=False
        )
        if answer.stdout.split() == ["idle"] * len(NODES):
            return
        if time.monotonic() > deadline:
            logs = "".join(file.read_text(errors="replace")[-2000:] for file in folder.glob("*.log"))
            raise RuntimeError(f"the nodes did not come: {answer.stdout}{answer.stderr}\n{logs}")
        time.sleep(0.3)


def stop(folder: Path) -> None:
    """End what `start` started, by process id: nodes, controller, munge."""
    for name in (*NODES, "slurmctld", "munged"):
        file = folder / f"{name}.started"
        if not file.exists():
            continue
        process = int(file.read_text(encoding="utf-8"))
        _end(process)
        file.unlink()


def _end(process: int) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(process, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):  # another process started it
                os.waitpid(process, os.WNOHANG)
            if not Path(f"/proc/{process}").exists():
                return
            time.sleep(0.1)


if __name__ == "__main__":
    place = Path(sys.argv[2]).absolute()
    if sys.argv[1] == "start":
        reason = missing()
        sys.exit(reason) if reason else print("\n".join(f"export {k}={v}" for k, v in start(place).items()))
    else:
        stop(place)

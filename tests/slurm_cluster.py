"""A SLURM of this machine alone: a controller and several node daemons, without accounting and without root's services.

Debian: apt-get install --no-install-recommends slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

NODES = 4
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scontrol", "scancel", "squeue", "sinfo")

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.sock,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
ReturnToService=2
KillWait=30
SlurmdParameters=config_overrides
GresTypes=gpu
{nodes}
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why there can be no cluster here."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    absent = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if absent:
        return f"{', '.join(absent)} not installed"
    return None if os.geteuid() == 0 else "only root can start slurmctld and slurmd"


def wait_for(what: str, done: Callable[[], bool], seconds: float) -> None:
    """Look until it is so."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Cluster:
    """Start it, use it with ``call``, stop it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        self.environment = kept | {
            "SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{kept.get('PATH', '')}:/usr/sbin:/sbin",
            "MASTER_ADDR": "127.0.0.1",  # the nodes' names do not resolve
        }  # fmt: skip

    def call(self, *words: str | Path, timeout: float = 30) -> str:
        """What a command prints."""
        done = subprocess.run(
            [str(word) for word in words], env=self.environment, capture_output=True, text=True, timeout=timeout
        )
        assert done.returncode == 0, f"{words[0]}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def start(self) -> None:
        """Write the configuration and start the daemons."""
        folder, host = self.folder, socket.gethostname().split(".")[0]
        folder.chmod(0o755)
        for name in ("state", "log", "run", "dev", *(f"spool/n{number}" for number in range(NODES))):
            (folder / name).mkdir(parents=True)
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o600)
        for number in range(4):
            (folder / "dev" / f"gpu{number}").touch()
        (folder / "gres.conf").write_text(f"Name=gpu File={folder}/dev/gpu[0-3]\n")
        controller, *ports = _free_ports(NODES + 1)
        nodes = [
            f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=64 Gres=gpu:4"
            for number, port in enumerate(ports)
        ]
        conf = CONF.format(host=host, port=controller, folder=folder, nodes="\n".join(nodes))
        (folder / "slurm.conf").write_text(conf)
        run = folder / "run"
        self.call(
            "munged", f"--socket={run}/munge.sock", f"--key-file={folder}/munge.key", f"--log-file={folder}/log/munged",
            f"--pid-file={run}/munged.pid", f"--seed-file={folder}/munge.seed", "--force",
        )  # fmt: skip
        self.call("slurmctld", "-c")
        for number in range(NODES):
            self.call("slurmd", "-N", f"n{number}")
        wait_for("no idle nodes", lambda: self._idle() == str(NODES), 30)

    def _idle(self) -> str:
        done = subprocess.run(
            ["sinfo", "-h", "-t", "idle", "-o", "%D"], env=self.environment, capture_output=True, text=True, timeout=30
        )
        return done.stdout.strip()

    def stop(self) -> None:
        """End all jobs and daemons."""
        with suppress(AssertionError, subprocess.TimeoutExpired):
            self.call("scancel", "--user=root", "--signal=KILL", "--full")
            self.call("scancel", "--user=root")
        pids = []
        for path in sorted((self.folder / "run").glob("*.pid")):
            with suppress(ProcessLookupError, ValueError):
                pids.append(int(path.read_text()))
                os.kill(pids[-1], signal.SIGTERM)
        try:
            wait_for("the daemons' end", lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 15)
        except TimeoutError:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

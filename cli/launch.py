"""How many processes there are to be and how many were started: mistakes that would hang, or train in silence alone."""

import errno
import os
import socket
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities import rank_zero_only
from torch.distributed import DistNetworkError

from tenshot.errors import InputError

__all__ = ["NO_MEETING", "Slurm", "check_launch", "is_first_rank", "no_meeting"]

NO_MEETING = DistNetworkError
"""What is raised where processes cannot reach one another."""
BY_SRUN = ("SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS")


class Slurm(SLURMEnvironment):
    """SLURM's environment, without a requeue of Lightning's, which would save in mid-step; see Preemption.

    The numbers of tasks are looked at by ``check_launch``, which knows how many are wanted.
    """

    def __init__(self) -> None:
        super().__init__(auto_requeue=False)

    @staticmethod
    def _validate_srun_variables() -> None:
        pass

    def global_rank(self) -> int:
        """Without srun nothing tells it."""
        return int(os.environ.get("SLURM_PROCID", 0))

    def local_rank(self) -> int:
        """Without srun nothing tells it."""
        return int(os.environ.get("SLURM_LOCALID", 0))

    def node_rank(self) -> int:
        """Without srun nothing tells it."""
        return int(os.environ.get("SLURM_NODEID", 0))


def is_first_rank() -> bool:
    """Before there is a process group; ranks that Lightning starts on other nodes count from 0 there."""
    return getattr(rank_zero_only, "rank", 0) == 0 and os.environ.get("NODE_RANK", "0") == "0"


def check_launch(trainer: Trainer) -> None:
    """Make sure that as many processes were, or can be, started as the trainer is for.

    Raises:
        InputError: The launcher started another number, or none; or the port at which they are to meet is taken.
    """
    devices, nodes = trainer.num_devices, trainer.num_nodes
    environment: Any = trainer._accelerator_connector.cluster_environment
    asked = f"--trainer.devices {devices} x --trainer.num_nodes {nodes}"
    if isinstance(environment, SLURMEnvironment):
        _check_slurm(environment, devices, nodes, asked)
    elif isinstance(environment, TorchElasticEnvironment):
        started = environment.world_size()
        if started != devices * nodes:
            raise InputError(
                f"torchrun started {started} processes, but {asked} makes {devices * nodes}: let both say the same"
            )
    elif isinstance(environment, LightningEnvironment):
        if nodes > 1 and not {"NODE_RANK", "GROUP_RANK"} & set(os.environ):
            raise InputError(
                f"--trainer.num_nodes is {nodes}, but nothing tells which of the nodes this is: start with srun or "
                "torchrun, or set NODE_RANK, MASTER_ADDR and MASTER_PORT on each"
            )
        if devices * nodes > 1 and not environment.creates_processes_externally and environment.node_rank() == 0:
            _check_port()


def _check_slurm(environment: SLURMEnvironment, devices: int, nodes: int, asked: str) -> None:
    wanted, by_srun = devices * nodes, any(name in os.environ for name in BY_SRUN)
    if not by_srun:
        if wanted > 1:
            raise InputError(
                f"this is a SLURM allocation, but srun did not start this process, and {asked} needs {wanted}: start "
                f"with srun --ntasks-per-node={devices} --nodes={nodes} tenshot ..., or ask for one device"
            )
        return
    started = int(os.environ.get("SLURM_STEP_NUM_TASKS") or os.environ["SLURM_NTASKS"])
    if started != wanted:
        raise InputError(
            f"srun started {started} tasks, but {asked} makes {wanted}: set --trainer.devices to the tasks of a node "
            "and --trainer.num_nodes to the nodes, one task a device"
        )
    if wanted > 1:
        try:
            environment.validate_settings(num_devices=devices, num_nodes=nodes)
        except ValueError as error:
            raise InputError(f"--trainer: {' '.join(str(error).split())}") from None


def _check_port() -> None:
    """Lightning looks for a free port itself, unless the environment names one."""
    port = os.environ.get("MASTER_PORT")
    if port is None:
        return
    if not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise InputError(f"MASTER_PORT is {port!r}: set it to a free port, 1024 ... 65535, or unset it")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", int(port)))
        except OSError as error:
            taken = "another program has it" if error.errno == errno.EADDRINUSE else error.strerror
            raise InputError(
                f"the processes cannot meet at MASTER_PORT {port} ({taken}): set it to a free port, or unset it"
            ) from None


def no_meeting(error: BaseException) -> InputError:
    """What to say where processes cannot reach one another."""
    where = f"{os.environ.get('MASTER_ADDR', '127.0.0.1')}:{os.environ.get('MASTER_PORT', '?')}"
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(
        f"the processes cannot meet at MASTER_ADDR:MASTER_PORT {where} ({reason}): set MASTER_PORT to a free port"
    )

"""Processes of a test: ranks as torchrun starts them, and single ones, forked from a process that has imported all.

To import PyTorch, Lightning and Tenshot takes each process as long as most of what these tests have it do.
"""

import multiprocessing
import os
import runpy
import signal
import socket
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tiny"])


class Started:
    """A process that runs a script as ``python SCRIPT WORDS`` does.

    Args:
        script: A file of Python.
        words: Its arguments.
        environment: Variables besides those of this process.
        output: The file that takes what it prints; else it goes where this process prints.
    """

    def __init__(
        self, script: str, *words: str | Path, environment: Mapping[str, str] | None = None, output: Path | None = None
    ) -> None:
        arguments = (script, [str(word) for word in words], {**os.environ, **(environment or {})}, output)
        self._process = SERVER.Process(target=_script, args=arguments)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """Exit status, the negative number of the signal that killed it, or none while it runs."""
        return self._process.exitcode

    @property
    def sentinel(self) -> int:
        """What is ready once it has ended, for ``multiprocessing.connection.wait``."""
        return self._process.sentinel

    def wait(self, timeout: float) -> int:
        """Its exit status, once it has ended; after ``timeout`` seconds it is killed."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self.kill()
            raise TimeoutError(f"not done after {timeout} s")
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def start_ranks(script: str, *words: str | Path, folder: Path, count: int = 2) -> list[Started]:
    """Start a script on ranks that meet on this machine, as torchrun starts them.

    Returns:
        Their processes; what each prints goes to the file of its number in the folder.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0", "TORCHELASTIC_USE_AGENT_STORE": "False",
    }  # fmt: skip
    return [
        Started(
            script,
            *words,
            environment=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            output=folder / str(rank),
        )
        for rank in range(count)
    ]


def run_ranks(script: str, *words: str | Path, timeout: float, count: int = 2) -> str:
    """Run a script on ranks that meet on this machine; where one fails, the others are killed.

    Returns:
        What they printed, the first one's first.

    Raises:
        AssertionError: One failed, or they took longer than ``timeout`` seconds; with the end of what each printed.
    """
    with TemporaryDirectory() as folder:
        ranks = start_ranks(script, *words, folder=Path(folder), count=count)
        end = time.monotonic() + timeout
        while (alive := [rank for rank in ranks if rank.returncode is None]) and not any(r.returncode for r in ranks):
            if not wait([rank.sentinel for rank in alive], end - time.monotonic()):
                break
        ended = [rank.returncode for rank in ranks]
        for rank in ranks:
            rank.kill()
        printed = [(Path(folder) / str(rank)).read_text(errors="replace") for rank in range(count)]
    assert ended == [0] * count, "\n".join(f"{code}: {text[-3000:]}" for code, text in zip(ended, printed, strict=True))
    return "".join(printed)


def _script(script: str, words: list[str], environment: dict[str, str], output: Path | None) -> None:
    """What the forked process does."""
    from lightning.pytorch.utilities import rank_zero_only

    if output is not None:
        with output.open("wb") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
    os.environ.clear()
    os.environ.update(environment)
    rank_zero_only.rank = int(environment.get("RANK", environment.get("LOCAL_RANK", "0")))  # read when imported
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv, sys.path[:0] = [script, *words], [str(Path(script).parent)]
    runpy.run_path(script, run_name="__main__")

"""What the tests of methods, callbacks and command line share."""

import gc
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import torch
import torch.distributed as dist
from PIL import Image

from tenshot.cli import main

TRAIN = ("callbacks", "checkpoints", "cli", "lightning_modules", "scripts", "tests")
"""Folders whose tests mostly train or run commands, and take ten times as long as others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, then those that train, those with most tests before others.

    On two processes the short ones fill what is left.

    pytest-xdist's own order, by the number of tests alone, begins the longest files last (``--no-loadscope-reorder``).
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in slow, item.path.parent.name not in TRAIN, -tests[item.path]))


def pytest_collection_finish() -> None:
    """What is imported by now stays: the collector, which runs often here, need not look at it again each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny networks gain nothing from threads, and lose much where another process wants the cores.

    Told to the environment too: else a fit under ddp sets all cores' threads for the rest of this process, and with
    another number of threads sums round otherwise than in a process that the test starts.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Checkpoints of tests need not outlive the machine; beside another test that writes much, one took seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _this_checkout() -> None:
    """What a test starts as a process imports what the test does, not an installed copy."""
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)


@pytest.fixture(scope="module", autouse=True)
def _own_environment() -> Iterator[None]:
    """A fit under ddp leaves its group, and its rank and port in the environment, for whatever the next test starts."""
    before = dict(os.environ)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def tenshot(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> tiny.Run:
    """Run ``tenshot`` with these words in this process."""

    def run(*words: str | Path) -> tiny.Outcome:
        capfd.readouterr()
        caplog.clear()
        status = 0
        try:
            main([str(word) for word in words])
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capfd.readouterr()
        return tiny.Outcome(status, out, err, caplog.text)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of ``tenshot fit``: four steps, checkpoints of steps 2 and 4. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    config = tiny.config_file(folder, {"trainer": {"max_steps": 4}, "checkpoint": {"every_n_steps": 2}})
    main(["fit", "--config", config, "--trainer.default_root_dir", str(folder / "run")])
    return folder / "run"


@pytest.fixture
def run_copy(trained: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to be changed."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five PNGs of 16 x 16 pixels."""
    folder = tmp_path_factory.mktemp("shots")
    pixels = torch.randint(256, (5, 16, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image.numpy()).save(folder / f"{number}.png")
    return folder

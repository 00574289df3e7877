"""The public weight files that metrics and losses need: given, found in torch's cache, or downloaded."""

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Literal, get_args
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from rich.console import Console
from rich.progress import wrap_file

from tenshot.errors import InputError, did_you_mean
from tenshot.models.pretrained.reading import sha256

__all__ = ["Trunk", "WeightFile", "given_file", "have_quickly", "weight_file"]

Trunk = Literal["inception", "vgg16", "vgg19", "alexnet", "squeezenet"]

URLS: dict[str, str] = {
    "inception": (
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
    ),
    "vgg16": "https://download.pytorch.org/models/vgg16-397923af.pth",
    "vgg19": "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    "alexnet": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "squeezenet": "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
}
"""Each file name ends in the first digits of the SHA-256 of its content."""

TIMEOUT = 20  # seconds without a byte

QUICK_ANSWER = 4.0
"""Seconds in which a server answers, name resolution and all, and after which the next bytes have come."""

QUICK_DOWNLOAD = 240.0
"""Seconds that a download may take, as its first ``TRIAL`` seconds foretell."""

TRIAL = 10.0


@dataclass(frozen=True)
class WeightFile:
    """A file of weights on this machine.

    Args:
        path: Where it is.
        sha256: Hexadecimal SHA-256 of its content.
        published: Whether it is the public file, to the byte: only then may a result carry the name of the published
            metric.
    """

    path: Path
    sha256: str
    published: bool


def weight_file(name: Trunk, path: str | Path | None = None, download: bool = True) -> WeightFile:
    """Find the weights of a public network, or download them.

    Looked for at ``path``, if given, else in ``hub/checkpoints`` of torch's cache ($TORCH_HOME, ~/.cache/torch), else
    downloaded to there: by one process of the machine, while the others wait for it. A download is renamed to its name
    when it is whole and its hash is right.

    Args:
        name: Which network.
        path: The file; any name, and not necessarily the published weights.
        download: Whether to download.

    Raises:
        InputError: It is not there and cannot be downloaded, or is not what its name says; with the file, its URL and
            the folder it belongs in.
    """
    if name not in URLS:
        raise InputError(f"no public weights {name!r}{did_you_mean(name, get_args(Trunk))}: {', '.join(URLS)}")
    expected = _hash_prefix(URLS[name])
    if path is not None:
        given = Path(path).expanduser()
        if not given.is_file():
            raise InputError(f"{given}: no such file of {name} weights: {_remedy(name)}")
        digest = sha256(given)
        return WeightFile(given, digest, published=digest.startswith(expected))
    target = _target(name)
    if not target.is_file():
        if not download:
            raise InputError(f"{target}: the {name} weights are not there: {_remedy(name)}")
        with _one_process_at_a_time(target):
            if not target.is_file():
                _download(name, target, quickly=False)
    digest = sha256(target)
    if not digest.startswith(expected):
        raise InputError(
            f"{target}: torn or another file, its SHA-256 begins with {digest[:8]} and not {expected}: delete it, then "
            f"{_remedy(name)}"
        )
    return WeightFile(target, digest, published=True)


def given_file(name: str, path: str | None, url: str) -> Path:
    """A weight file that is not looked for: the user gives it.

    Raises:
        InputError: None is given, or it is not there; with where the public one is from.
    """
    if path is None:
        raise InputError(f"features {name} need a file of weights, which is not looked for: give that of {url}")
    given = Path(path).expanduser()
    if not given.is_file():
        raise InputError(f"{given}: no such file of {name} weights: give that of {url}")
    return given


def have_quickly(name: Trunk) -> None:
    """Have the weights in torch's cache: they are there, or one try to download them goes well and soon.

    Raises:
        InputError: They are not there, and the network does not answer within seconds, or is slow, or refuses; in few
            words, for who has something else to take.
    """
    target = _target(name)
    if not target.is_file():
        with _one_process_at_a_time(target):
            if not target.is_file():
                _download(name, target, quickly=True)


def _target(name: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / URLS[name].rsplit("/", 1)[1]


def _hash_prefix(url: str) -> str:
    match = re.search(r"-([0-9a-f]{8})\.pth$", url)
    assert match is not None
    return match[1]


def _remedy(name: str) -> str:
    return f"download {URLS[name]} into {_target(name).parent}, or give its path, or choose features efficientnet_lite0"


@contextmanager
def _one_process_at_a_time(target: Path) -> Iterator[None]:
    """Hold the lock of a download; a file system without locks lets all download, which costs time alone."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = open(target.with_name(f".{target.name}.lock"), "w")  # noqa: SIM115
    except OSError as error:
        raise InputError(
            f"{target}: cannot be written ({error.strerror}): set TORCH_HOME to a folder of yours"
        ) from None
    with lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(name: str, target: Path, quickly: bool) -> None:
    url, digest, begun, done = URLS[name], hashlib.sha256(), time.monotonic(), 0
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    remedy = "" if quickly else f": {_remedy(name)}"
    try:
        with _answer(url, quickly) as answer:
            size = int(answer.headers.get("Content-Length") or 0)
            progress = wrap_file(answer, total=size, description=target.name, console=Console(stderr=True))
            with progress as source, open(partial, "wb") as file:
                while block := source.read(2**16):
                    digest.update(block)
                    file.write(block)
                    done += len(block)
                    if quickly and _is_slow(time.monotonic() - begun, done, size):
                        raise TimeoutError("the network is slow")
        if not digest.hexdigest().startswith(_hash_prefix(url)):
            raise InputError(
                f"{url}: what came is torn or another file, its SHA-256 begins with {digest.hexdigest()[:8]}{remedy}"
            )
        os.replace(partial, target)
    except (OSError, HTTPException) as error:  # such as HTTPError and URLError
        reason = error if isinstance(error, HTTPError) else getattr(error, "reason", None) or error
        raise InputError(f"{name} weights could not be downloaded ({reason}){remedy}") from None
    finally:
        partial.unlink(missing_ok=True)


def _answer(url: str, quickly: bool) -> Any:
    """The open answer of a server. A name that no server resolves can take minutes, which no timeout of a socket ends:
    who is in a hurry leaves it to a thread.
    """
    request = Request(url, headers={"User-Agent": "tenshot"})
    if not quickly:
        return urlopen(request, timeout=TIMEOUT)
    came: SimpleQueue[Any] = SimpleQueue()

    def ask() -> None:
        try:
            came.put(urlopen(request, timeout=QUICK_ANSWER))
        except (OSError, HTTPException) as error:
            came.put(error)

    Thread(target=ask, daemon=True).start()
    try:
        answer = came.get(timeout=QUICK_ANSWER)
    except Empty:
        raise TimeoutError(f"no answer within {QUICK_ANSWER:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _is_slow(seconds: float, done: int, size: int) -> bool:
    """Whether a download that has come so far will take too long."""
    foreseen = seconds * max(1.0, size / done)
    return seconds > TRIAL and foreseen > QUICK_DOWNLOAD

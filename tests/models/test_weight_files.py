"""Public weight files: given, cached, downloaded; and the one line where they are not what they should be."""

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tenshot.errors import InputError
from tenshot.models.pretrained import weight_file, weight_files

CONTENT = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
FILE = f"alexnet-{DIGEST[:8]}.pth"


class Server:
    """Serves a folder and counts the requests."""

    def __init__(self, folder: Path) -> None:
        self.requests = 0

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(handler) -> None:
                self.requests += 1
                super().do_GET()

            def log_message(handler, *words: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.http.server_port}/{FILE}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's cache, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    folder = tmp_path / "public"
    folder.mkdir()
    (folder / FILE).write_bytes(CONTENT)
    server = Server(folder)
    monkeypatch.setitem(weight_files.URLS, "alexnet", server.url)
    yield server
    server.stop()


def complaint(**arguments: object) -> str:
    with pytest.raises(InputError) as error:
        weight_file("alexnet", **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_that_is_not_there_is_downloaded_once_into_torchs_cache(cache: Path, server: Server):
    first = weight_file("alexnet")
    assert first == weight_file("alexnet")
    assert first.path == cache / FILE
    assert first.path.read_bytes() == CONTENT
    assert first.sha256 == DIGEST
    assert first.published
    assert server.requests == 1
    assert [path.name for path in cache.iterdir() if not path.name.endswith(".lock")] == [FILE]


@pytest.mark.usefixtures("cache")
def test_of_many_processes_one_downloads(server: Server):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: weight_file("alexnet"), range(4)))
    assert len(set(found)) == 1
    assert server.requests == 1


def test_offline_it_says_which_file_to_put_where(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(weight_files.URLS, "alexnet", f"http://127.0.0.1:9/{FILE}")
    for said in (complaint(), complaint(download=False)):
        assert f"http://127.0.0.1:9/{FILE}" in said
        assert str(cache) in said
        assert "or choose features efficientnet_lite0" in said
    assert "refused" in complaint()
    assert not (cache / FILE).exists()


def test_a_file_that_is_gone_from_its_address_is_one_line(cache: Path, server: Server, tmp_path: Path):
    (tmp_path / "public" / FILE).unlink()
    said = complaint()
    assert "404" in said
    assert server.url in said


def test_a_download_that_is_another_file_is_thrown_away(cache: Path, server: Server, tmp_path: Path):
    (tmp_path / "public" / FILE).write_bytes(b"<html>Please log in</html>")
    said = complaint()
    assert "torn or another file" in said
    assert hashlib.sha256(b"<html>Please log in</html>").hexdigest()[:8] in said
    assert [path.name for path in cache.iterdir() if not path.name.endswith(".lock")] == []


def test_a_torn_file_in_the_cache_is_named(cache: Path, server: Server):
    cache.mkdir(parents=True)
    (cache / FILE).write_bytes(CONTENT[:-1])
    said = complaint()
    assert said.startswith(str(cache / FILE))
    assert "delete it" in said
    assert server.requests == 0


def test_a_given_file_wins_and_counts_as_published_only_if_it_is_the_public_one(cache: Path, tmp_path: Path):
    path = tmp_path / "own.pth"
    path.write_bytes(CONTENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(weight_files.URLS, "alexnet", f"http://127.0.0.1:9/{FILE}")
        assert weight_file("alexnet", path) == weight_files.WeightFile(path, DIGEST, published=True)
        path.write_bytes(CONTENT[:-1])
        assert not weight_file("alexnet", str(path)).published


def test_a_given_file_that_is_not_there_is_not_looked_for_elsewhere(cache: Path, server: Server, tmp_path: Path):
    said = complaint(path=tmp_path / "own.pth")
    assert said.startswith(f"{tmp_path / 'own.pth'}: no such file")
    assert server.requests == 0


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    assert "set TORCH_HOME" in complaint()


def test_unknown_weights_are_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="did you mean 'alexnet'"):
        weight_file("alex-net")  # type: ignore[arg-type]


def test_each_public_name_ends_in_its_hash():
    assert all(weight_files._hash_prefix(url) for url in weight_files.URLS.values())


# In a hurry


def reason() -> str:
    with pytest.raises(InputError) as error:
        weight_files.have_quickly("alexnet")
    assert "\n" not in str(error.value)
    assert "choose features" not in str(error.value)  # who asks has others
    return str(error.value)


def test_what_is_there_or_soon_there_is_had(cache: Path, server: Server):
    weight_files.have_quickly("alexnet")
    assert (cache / FILE).read_bytes() == CONTENT
    weight_files.have_quickly("alexnet")
    assert server.requests == 1


def test_a_server_that_does_not_answer_is_not_waited_for(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weight_files, "QUICK_ANSWER", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setitem(weight_files.URLS, "alexnet", f"http://127.0.0.1:{silent.getsockname()[1]}/{FILE}")
        assert re.fullmatch(
            r"alexnet weights could not be downloaded \((no answer within 0\.1 s|timed out)\)", reason()
        )
        assert not (cache / FILE).exists()


def test_names_that_nobody_resolves_are_not_waited_for(cache: Path, monkeypatch: pytest.MonkeyPatch):
    """Which no timeout of a socket ends."""
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *words, **more: over.wait(20))
    monkeypatch.setattr(weight_files, "QUICK_ANSWER", 0.1)
    assert "no answer within 0.1 s" in reason()
    over.set()


def test_a_download_that_stands_still_is_given_up(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weight_files, "QUICK_ANSWER", 0.2)
    over = threading.Event()

    def begin() -> None:
        connection, _ = standing.accept()
        with connection:
            connection.recv(2**16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthe beginning")
            over.wait(5)

    with socket.create_server(("127.0.0.1", 0)) as standing:
        server = threading.Thread(target=begin)
        server.start()
        monkeypatch.setitem(weight_files.URLS, "alexnet", f"http://127.0.0.1:{standing.getsockname()[1]}/{FILE}")
        assert "timed out" in reason()
        over.set()
        server.join()
    assert [path.name for path in cache.iterdir() if not path.name.endswith(".lock")] == []


def test_a_network_that_refuses_is_asked_once(cache: Path, server: Server, tmp_path: Path):
    (tmp_path / "public" / FILE).unlink()
    assert "404" in reason()
    assert server.requests == 1


def test_a_slow_download_is_given_up(cache: Path, server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weight_files, "TRIAL", 0.0)
    monkeypatch.setattr(weight_files, "QUICK_DOWNLOAD", 0.0)
    assert "the network is slow" in reason()
    assert [path.name for path in cache.iterdir() if not path.name.endswith(".lock")] == []


@pytest.mark.parametrize(
    ("seconds", "done", "size", "slow"),
    [(9, 1, 10**6, False), (11, 500, 10_000, False), (11, 400, 10_000, True), (239, 1, 0, False), (241, 1, 0, True)],
)
def test_a_download_is_slow_that_will_take_more_than_four_minutes(seconds: float, done: int, size: int, slow: bool):
    assert weight_files._is_slow(seconds, done, size) is slow

"""The server of ``tenshot paint``: for this machine's browser alone, one drawing at a time, and lines for mistakes."""

import base64
import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest
import tiny
from tiny_piti import piti

from tenshot.cli.paint import _listening, painting, prepare_paint, server
from tenshot.cli.paint.canvas import Canvas, canvas_for
from tenshot.cli.paint.server import PAGE, serving
from tenshot.errors import InputError

pytest.importorskip("starlette", reason="pip install 'tenshot[paint]'")
pytest.importorskip("uvicorn", reason="pip install 'tenshot[paint]'")

CELLS = base64.b64encode(bytes(32 * 32)).decode()
JSON = {"Content-Type": "application/json"}


class Asked:
    """What drawings were asked for: whom to tell, and what ends them."""

    def __init__(self) -> None:
        self.tell: list[Callable[[Mapping[str, Any]], None]] = []
        self.stopped: list[Event] = []
        self.came = threading.Semaphore(0)

    def __call__(self, asked: Mapping[str, Any], cells: bytes, tell: Callable[[Mapping[str, Any]], None]) -> Event:
        if "bad" in asked:
            raise InputError("seed is bad")
        assert cells == bytes(32 * 32)
        self.tell.append(tell)
        self.stopped.append(Event())
        self.came.release()
        return self.stopped[-1]


@pytest.fixture(scope="module")
def canvas() -> Canvas:
    return canvas_for(piti(), tiny.faces(num_val=2, pairs="mask", condition_size=32), None, {})


@pytest.fixture
def served(canvas: Canvas) -> Iterator[tuple[int, Asked]]:
    asked = Asked()
    with serving(_listening("127.0.0.1", 0), canvas, {"method": "PITI"}, asked) as (address, alive):
        assert alive()
        yield int(address.rstrip("/").rsplit(":", 1)[1]), asked


def answer(port: int, method: str, path: str, body: Any = None, headers: Any = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body, headers or {})
    return connection.getresponse()


def draw(port: int, **asked: Any) -> http.client.HTTPResponse:
    return answer(port, "POST", "/draw", json.dumps({"cells": CELLS} | asked), JSON)


def test_the_page_loads_nothing_from_elsewhere(served: tuple[int, Asked]):
    port, _ = served
    for name in PAGE:
        found = answer(port, "GET", f"/{name}")
        assert found.status == 200
        assert "default-src 'self'" in (found.headers["Content-Security-Policy"] or "")
        assert b"//" not in found.read().replace(b"// ", b"").replace(b"/* ", b"")  # no address but of comments
    assert json.loads(answer(port, "GET", "/about").read()) == {"method": "PITI"}
    assert answer(port, "GET", "/server.py").status == 404
    assert answer(port, "GET", "/../pyproject.toml").status == 404


def test_pages_of_others_cannot_use_it(served: tuple[int, Asked]):
    port, asked = served
    assert answer(port, "GET", "/about", headers={"Host": "elsewhere.org"}).status == 400  # a name that leads here
    for path in ("/draw", "/open", "/keep"):
        found = answer(port, "POST", path, json.dumps({"cells": CELLS}), {"Content-Type": "text/plain"})
        assert found.status == 400
        assert "send application/" in json.loads(found.read())["error"]
    assert asked.tell == []


def test_lines_arrive_as_they_are_told(served: tuple[int, Asked]):
    port, asked = served
    response: list[http.client.HTTPResponse] = []
    thread = threading.Thread(target=lambda: response.append(draw(port)))
    thread.start()
    asked.came.acquire()
    asked.tell[0]({"number": 0, "image": "first"})
    thread.join()
    assert json.loads(response[0].readline()) == {"number": 0, "image": "first"}
    asked.tell[0]({"end": True})
    assert json.loads(response[0].readline()) == {"end": True}
    assert response[0].read() == b""


def test_one_drawing_at_a_time(served: tuple[int, Asked]):
    port, asked = served
    first, second = list[Any](), list[Any]()
    threads = [threading.Thread(target=lambda into=into: into.append(draw(port))) for into in (first, second)]
    threads[0].start()
    asked.came.acquire()
    asked.tell[0]({"steps": [1, 2]})
    threads[0].join()
    threads[1].start()
    threads[1].join()
    assert json.loads(second[0].readline()) == {"waiting": True}
    assert len(asked.tell) == 1
    asked.tell[0]({"end": True})
    assert first[0].read().endswith(b'{"end": true}\n')
    asked.came.acquire()
    asked.tell[1]({"end": True})
    assert json.loads(second[0].readline()) == {"end": True}


def test_who_leaves_is_drawn_for_no_longer(served: tuple[int, Asked]):
    port, asked = served
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/draw", json.dumps({"cells": CELLS}), JSON)
    asked.came.acquire()
    assert not asked.stopped[0].is_set()
    connection.close()
    assert asked.stopped[0].wait(20)
    assert not draw_refused(port)  # the next one's turn has come


def draw_refused(port: int) -> bool:
    return "waiting" in json.loads(draw(port, bad=True).readline())


def test_mistakes_are_lines(served: tuple[int, Asked], monkeypatch: pytest.MonkeyPatch):
    port, _ = served
    assert json.loads(draw(port, bad=True).read()) == {"error": "seed is bad"}
    for body in ("no json", "[]", "{}", '{"cells": 3}', '{"cells": "?"}'):
        found = answer(port, "POST", "/draw", body, JSON)
        assert "no drawing: reload" in json.loads(found.read())["error"]
    assert "no example 2" in json.loads(answer(port, "GET", "/example/2").read())["error"]
    kind = {"Content-Type": "application/octet-stream"}
    found = answer(port, "POST", "/open?name=a.png", b"nothing", kind)
    assert "a.png is not an image" in json.loads(found.read())["error"]
    monkeypatch.setattr(server, "MOST_BYTES", 1000)
    assert "the file has more than" in json.loads(answer(port, "POST", "/open", bytes(1001), kind).read())["error"]


def test_places_that_cannot_be_served_at(served: tuple[int, Asked]):
    port, _ = served
    tiny.refusal(lambda: _listening("127.0.0.1", port), f"--port {port}: ", "in use", "choose another --port")
    tiny.refusal(lambda: _listening("127.0.0.1", 70000), "--port is 70000")
    tiny.refusal(lambda: _listening("no.such.host.invalid", 0), "--host no.such.host.invalid", "choose another --host")


def test_words_of_the_command(monkeypatch: pytest.MonkeyPatch):
    alone = ["--trainer.devices", "1", "--trainer.num_nodes", "1", "--trainer.strategy", "auto", "--trainer.logger"]
    assert painting(["paint", "runs/a", "--port", "1"])[:5] == ["paint", "--ckpt_path", "runs/a", "--port", "1"]
    assert painting(["paint", "runs/a"])[3:-1] == alone
    assert painting(["paint", "a", "--trainer.devices=[1]"]).count("--trainer.devices") == 0
    assert painting(["predict", "--ckpt_path", "a"]) == ["predict", "--ckpt_path", "a"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    tiny.refusal(lambda: painting(["paint", "a"]), "starlette and uvicorn: pip install 'tenshot[paint]'")
    assert painting(["paint", "--help"]) == ["paint", "--help"]


def test_several_processes_are_refused():
    trainer, data = cast(Any, SimpleNamespace(world_size=2)), cast(Any, None)
    tiny.refusal(lambda: prepare_paint(trainer, cast(Any, None), data), "on one device, not on 2")


def test_a_run_that_cannot_be_painted_for_is_one_line(tenshot: tiny.Run, trained: Path):
    told = tenshot("paint", trained, "--port", "0").complaint
    assert "this DDPM does not, draw from it with tenshot predict" in told

"""The page and what it asks for, over HTTP on one machine; Starlette and uvicorn are the extra ``paint``."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from threading import Event, Thread
from typing import Any

from tenshot.cli.paint.canvas import Canvas
from tenshot.errors import InputError

__all__ = ["LOOPBACK", "application", "serving"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_BYTES = 64 * 2**20
"""Of a file that is opened on the page."""
JSON, FILE = "application/json", "application/octet-stream"
"""Types that pages of other sites cannot send without asking first, which nobody answers."""
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
PAGE = {"": "text/html", "page.css": "text/css", "page.js": "text/javascript", "brush.js": "text/javascript"}

Ask = Callable[[Mapping[str, Any], bytes, Callable[[Mapping[str, Any]], None]], Event]


def application(canvas: Canvas, about: Mapping[str, Any], ask: Ask, hosts: list[str]) -> Any:
    """The page as an ASGI application.

    Args:
        canvas: What is drawn on.
        about: What the page has to know.
        ask: Takes up a drawing: what is asked, the cells, whom to tell; gives what ends it.
        hosts: Under which names the page is called, so that no other site's name leads to it; ``*`` for all.
    """
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    turn = asyncio.Lock()  # one drawing at a time

    def refused(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, 400, HEADERS)

    async def page(request: Request) -> Response:
        name = request.url.path.removeprefix("/")
        content = files("tenshot.cli.paint").joinpath(name or "page.html").read_text()
        return Response(content, media_type=PAGE[name], headers=HEADERS)

    async def described(request: Request) -> Response:
        return JSONResponse(about, headers=HEADERS)

    async def example(request: Request) -> Response:
        found = await run_in_threadpool(canvas.example, request.path_params["number"])
        return JSONResponse(found, headers=HEADERS)

    async def opened(request: Request) -> Response:
        data = await body(request, FILE)
        title, photo = request.query_params.get("name", "the file"), "photo" in request.query_params
        return JSONResponse(await run_in_threadpool(canvas.opened, data, title, photo), headers=HEADERS)

    async def kept(request: Request) -> Response:
        _, cells = sent(await body(request, JSON))
        return JSONResponse({"image": canvas.png(cells)}, headers=HEADERS)

    async def drawn(request: Request) -> Response:
        asked, cells = sent(await body(request, JSON))
        return StreamingResponse(told(asked, cells), media_type="application/x-ndjson", headers=HEADERS)

    async def told(asked: Mapping[str, Any], cells: bytes) -> AsyncIterator[str]:
        loop, lines = asyncio.get_running_loop(), asyncio.Queue[Mapping[str, Any]]()

        def tell(line: Mapping[str, Any]) -> None:
            loop.call_soon_threadsafe(lines.put_nowait, line)

        if turn.locked():
            yield json.dumps({"waiting": True}) + "\n"
        async with turn:
            try:
                stopped = ask(asked, cells, tell)
            except InputError as error:
                yield json.dumps({"error": str(error)}) + "\n"
                return
            try:
                while True:
                    line = await lines.get()
                    yield json.dumps(line) + "\n"
                    if "end" in line:
                        return
            finally:
                stopped.set()  # whoever asked may have gone

    async def body(request: Request, kind: str) -> bytes:
        if request.headers.get("content-type") != kind:
            raise InputError(f"send {kind}")
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > MOST_BYTES:
                raise InputError(f"the file has more than {MOST_BYTES >> 20} MB: choose a smaller one")
        return bytes(data)

    routes = [
        Route("/", page),
        Route("/about", described),
        Route("/example/{number:int}", example),
        Route("/open", opened, methods=["POST"]),
        Route("/keep", kept, methods=["POST"]),
        Route("/draw", drawn, methods=["POST"]),
        *(Route(f"/{name}", page) for name in PAGE if name),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        exception_handlers={InputError: refused},
    )


def sent(data: bytes) -> tuple[Mapping[str, Any], bytes]:
    """What the page asks for, and the cells of its canvas.

    Raises:
        InputError: It is neither.
    """
    try:
        asked = json.loads(data)
        return asked, base64.b64decode(asked["cells"], validate=True)
    except (ValueError, KeyError, TypeError):
        raise InputError("what was sent is no drawing: reload the page") from None


@contextmanager
def serving(
    listening: socket.socket, canvas: Canvas, about: Mapping[str, Any], ask: Ask
) -> Iterator[tuple[str, Callable[[], bool]]]:
    """Serve the page in a thread while the block runs.

    Yields:
        Its address, and whether it is still served.
    """
    import uvicorn

    host, port = listening.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    hosts = [*LOOPBACK, name] if host in LOOPBACK else ["*"]
    settings = uvicorn.Config(application(canvas, about, ask, hosts), log_level="warning", lifespan="off")
    server = uvicorn.Server(settings)
    thread = Thread(target=server.run, kwargs={"sockets": [listening]}, name="paint", daemon=True)
    thread.start()
    try:
        yield f"http://{name}:{port}/", thread.is_alive
    finally:
        server.should_exit = server.force_exit = True
        thread.join(timeout=10)

"""The page of ``tenshot paint`` as a visitor uses it."""

import base64
from typing import Any


class Browser:
    """The page in a headless browser, and what tests do with it.

    Args:
        page: Of Playwright.
        side: Cells of its canvas.
    """

    def __init__(self, page: Any, side: int) -> None:
        self.page, self.side = page, side
        self.asked: list[str] = []
        self.faults: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda line: self.faults.append(line.text) if line.type == "error" else None)

    def open(self, url: str) -> None:
        self.page.goto(url)
        self.page.wait_for_selector("#wish[data-ready]")

    def spot(self, cell: tuple[int, int]) -> tuple[float, float]:
        box = self.page.locator("#canvas").bounding_box()
        return tuple(box[side] + 1 + (box[length] - 2) * (at + 0.5) / self.side  # type: ignore[return-value]
                     for side, length, at in (("x", "width", cell[0]), ("y", "height", cell[1])))  # fmt: skip

    def stroke(self, *cells: tuple[int, int]) -> None:
        mouse = self.page.mouse
        mouse.move(*self.spot(cells[0]))
        mouse.down()
        for cell in cells[1:]:
            mouse.move(*self.spot(cell))
        mouse.up()

    def set(self, name: str, value: object) -> None:
        self.page.fill(f"#{name}", str(value))

    def draw(self, count: int) -> list[bytes]:
        self.set("count", count)
        self.page.click("#draw")
        self.page.locator("figure.finished").nth(count - 1).wait_for()
        images = self.page.locator("figure.finished img").all()
        return [base64.b64decode(image.get_attribute("src").partition(",")[2]) for image in images]

"""Whatever runs, options and values are called, the page shows it as text and runs none of it."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image
from run_folders import config, evaluation, make_run, random_images

from tenshot.reports import grouped, read_run
from tenshot.reports.comparison import compare
from tenshot.reports.conditions import Panel
from tenshot.reports.images import ImageRow, shot_sets
from tenshot.reports.markup import render
from tenshot.reports.page import page
from tenshot.reports.shots import NotAvailable

EVIL = """<evil on="x">"'&lt;{{ 7 * 7 }}{% evil %}</style>"""
"""Opens a tag, ends attributes of both quotes, holds an entity, and is a template."""


class Page(HTMLParser):
    """What a browser would see: tags, attributes by name, all text, and that of titles."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self.text = self.titles = ""
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data
        self.titles += data if self.tags and self.tags[-1] == "title" else ""


def run(folder: Path, name: str, number: int) -> Path:
    """A run in which everything that the page shows is called ``name``."""
    plain = name.replace("/", "")  # what a folder may be called
    result = evaluation(300, 1.0 + number, 0.5, samples=100 + number)
    way = result["metrics"]["frechet"]
    way["values"] |= {f"value {name}": 2.0 + number}
    way["settings"] |= {f"setting {name}": f"as {name}"}
    result["sampler"] = {f"sampler {name}": f"with {name}"}
    result |= {"weights": f"weights {name}", "code": f"code {name}"}
    log = [{"step": step, f"train/{name}": 1.0 / (step + 1)} for step in range(3)]
    settings = config(number) | {f"option {name}": f"{number} {name}"}
    made = make_run(folder / f"method {plain} {number}", settings, [result], random_images(6, number), log)
    (made / "strips").mkdir()
    Image.fromarray(np.concatenate(list(random_images(4, 3)), axis=1)).save(made / "strips" / "step=00000300.png")
    return made


def test_hostile_names_are_text(tmp_path: Path):
    groups = grouped([], {f"group {EVIL} {i}": [read_run(run(tmp_path, EVIL, i))] for i in range(2)})
    absent = {group.name: NotAvailable(f"because {EVIL}") for group in groups}
    panel = Panel([ImageRow(f"conditions {EVIL}", random_images(6, 9))], [], [(f"run {EVIL}", f"lost {EVIL}")])
    found = Page(page(groups, compare(groups), shot_sets(groups), panel, absent, f"made by {EVIL}"))
    assert "evil" not in found.tags
    assert "on" not in found.attributes

    named = ["group", "value", "setting", "as", "sampler", "with", "weights", "code", "option", "because", "made by"]
    named += ["conditions", "run", "lost"]
    for told in named:
        assert f"{told} {EVIL}" in found.text, told
    assert f"train/{EVIL}" in found.text
    assert f"group {EVIL} 1" in found.titles  # of a curve
    for attribute in ("alt", "aria-label", "data-label"):
        assert any(f"group {EVIL} 0" in value for value in found.attributes[attribute]), attribute
    ids, links = found.attributes["id"], found.attributes["href"]
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert any(link.startswith("#apart-value") for link in links)


def test_a_template_without_a_value_is_no_empty_place():
    with pytest.raises(UndefinedError, match="rows"):
        render("cost.html", colours={})

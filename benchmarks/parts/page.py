"""Results that a page of the documentation shows: kept in ``benchmarks/results`` and copied into the page."""

from pathlib import Path

import yaml

from tenshot.models import UNetConfig

ROOT = Path(__file__).parents[2]
RECIPE = "configs/ddpm/source256.yaml"


def adm_256() -> UNetConfig:
    """ADM's network of 256 px, as the recipe of the source model has it."""
    recipe = yaml.safe_load((ROOT / RECIPE).read_text())
    return UNetConfig(**recipe["model"]["init_args"]["unet"])


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    cells = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(row)} |" for row in cells]


def publish(name: str, lines: list[str]) -> None:
    """Write ``benchmarks/results/<name>.md``, and put it into ``docs/<name>.md`` between its two marks."""
    text = "\n".join(lines) + "\n"
    result = ROOT / "benchmarks" / "results" / f"{name}.md"
    result.write_text(text)
    begin, end = f"<!-- {result.relative_to(ROOT)} -->\n", "<!-- end -->"
    page = ROOT / "docs" / f"{name}.md"
    before, rest = page.read_text().split(begin)
    page.write_text(before + begin + "\n" + text + "\n" + end + rest.split(end, 1)[1])
    print(text)

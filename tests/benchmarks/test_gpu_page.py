"""The page of what ``make gpu`` found: merging of calls, failures, goals."""

import json
from pathlib import Path

import pytest

from benchmarks.gpu.page import main
from benchmarks.gpu.results import lines_of, merged

CARD = "NVIDIA X1 80GB TEST"


def row(stage: str, name: str, status: str = "ok", **values: object) -> dict[str, object]:
    return {"stage": stage, "name": name, "status": status, **values}


def rows_file(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def page_of(folder: Path, *rows: dict[str, object]) -> str:
    main([str(rows_file(folder / "rows.jsonl", *rows))], folder)
    return (folder / "gpu_x1_80gb_test.md").read_text()


NAMED = row("machine", "versions", card=CARD)


def test_later_rows_win_and_bookkeeping_is_left_out():
    rows = [row("a", "x", ms=1), row("a", "y"), row("a", "x", "failed"), row("a", "end of stage"), row("a", "whole a")]
    assert merged(rows) == [row("a", "x", "failed"), row("a", "y")]
    assert merged([row("a", "whole a", "failed")]) == [row("a", "whole a", "failed")]


def test_calls_of_one_card_are_merged(tmp_path: Path):
    page_of(tmp_path, NAMED, row("unet256", "eager", ms=111.0, ms_10=110.0, ms_90=112.0), row("unet256", "x", "failed"))
    text = page_of(tmp_path, NAMED, row("unet256", "eager", ms=222.0, ms_10=221.0, ms_90=223.0))
    assert "222 (221 to 223)" in text
    assert "111" not in text
    assert "| unet256 | x | failed |" in text
    kept = json.loads((tmp_path / "gpu_x1_80gb_test.json").read_text())
    assert [one["name"] for one in kept["rows"]] == ["versions", "eager", "x"]


def test_a_line_that_a_kill_tore_is_left_out(tmp_path: Path):
    path = rows_file(tmp_path / "rows.jsonl", row("a", "x"))
    path.write_text(path.read_text() + '{"stage": "a", "na')
    assert lines_of(path) == [row("a", "x")]


def test_failures_are_named(tmp_path: Path):
    text = page_of(tmp_path, NAMED, row("methods", "CDC", "failed", error="RuntimeError", message="no | kernel\nimage"))
    assert "| methods | CDC | failed | RuntimeError no / kernel image |" in text


def test_rows_of_the_cpu_are_not_published(tmp_path: Path):
    with pytest.raises(SystemExit):
        main([str(rows_file(tmp_path / "rows.jsonl", row("unet256", "eager", ms=1.0)))], tmp_path)
    assert not list(tmp_path.glob("gpu_*"))


def test_goals_are_held_against_what_was_reached(tmp_path: Path):
    unmeasured = page_of(tmp_path, NAMED)
    assert unmeasured.count("not measured") == 4
    assert "reached |\n" not in unmeasured.split("| goal |")[1].split("| --- |", 1)[1]
    text = page_of(
        tmp_path, NAMED,
        row("unet256", "matrix rate", tflops=100.0),
        row("unet256", "eager", ms=100.0, tflops=30.0, batch=8), row("unet256", "official float16", ms=120.0, batch=4),
        row("compiled", "compiled", ms=80.0, tflops=45.0, batch=8),
        row("adaptation", "DDPM", ms=100.0), row("adaptation", "DDPM-PA, all compared", ms=140.0),
        row("adaptation", "DDPM-PA, 3 compared", ms=110.0, batch=8),
        row("adaptation", "authors' code, float16", ms=165.0, batch=4),
        row("stylegan2", "bf16", ms=50.0), row("stylegan2", "NVlabs float16", ms=45.0, extensions=True),
    )  # fmt: skip
    goals = text.split("## Goals")[1].split("##")[0].splitlines()
    share, official, nvlabs, adaptation = [line for line in goals if line.startswith("| ") and "---" not in line][1:]
    assert "eager 30.0%, compiled 45.0% | reached" in share
    assert "eager 2.40, compiled 3.00 | reached" in official
    assert "bf16 0.90 times NVlabs float16 | **missed**" in nvlabs
    assert "1.40 (all images compared), 1.10 (3 compared as published); 3.00 times" in adaptation
    assert adaptation.endswith("| **missed** |")


def test_nvlabs_without_extensions_is_not_compared_as_with_them(tmp_path: Path):
    text = page_of(
        tmp_path, NAMED, row("stylegan2", "bf16", ms=50.0),
        row("stylegan2", "NVlabs float16", ms=90.0, extensions=False),
    )  # fmt: skip
    assert "bf16 1.80 times NVlabs float16, which ran without its extensions (see below) | not comparable |" in text


def test_what_another_run_measured_decides_no_goal(tmp_path: Path):
    page_of(
        tmp_path, NAMED, row("unet256", "matrix rate", tflops=100.0),
        row("unet256", "eager", ms=100.0, tflops=30.0), row("compiled", "eager", ms=70.0, tflops=42.0),
        row("adaptation", "DDPM", ms=70.0, tflops=43.0), row("stylegan2", "NVlabs float16", ms=50.0, extensions=True),
    )  # fmt: skip
    text = page_of(tmp_path, NAMED, row("stylegan2", "bf16", ms=40.0), row("adaptation", "DDPM", ms=50.0, tflops=60.0))
    assert "| eager 30.0% to 42.0% in 2 measurements | reached in part |" in text
    assert "bf16 1.25 times NVlabs float16, which was measured in another run | not decided |" in text


def test_kernels_have_a_table(tmp_path: Path):
    kernels = [{"kernel": "sm90_conv", "calls": 7, "ms": 12.5, "share": 0.25}]
    assert "| sm90_conv | 7 | 12.5 | 25.0% |" in page_of(tmp_path, NAMED, row("unet256", "kernels", kernels=kernels))

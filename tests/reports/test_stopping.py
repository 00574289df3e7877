"""The step that best.ckpt holds and the one at which copying begins, in the curves of the page."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from run_folders import config, evaluation, make_run

from tenshot.errors import InputError
from tenshot.reports import grouped, read_run
from tenshot.reports.curves import Mark, charts
from tenshot.reports.section_runs import curves_section
from tenshot.reports.stopping import Stopping, stopping_of
from tenshot.reports.svg import chart

VALUES = {50: 0.2, 100: 0.45, 150: 0.8, 200: 0.9}
"""Nearness by step: nearest to one half at 100, beyond what true images reach (0.765) from 150 on."""


def measured(step: int, nearness: float, shots: int = 10) -> dict[str, Any]:
    result = evaluation(step, 10.0 - step / 100, 0.5, samples=100)
    settings = {"n_generated": 100, "n_real": shots}
    result["metrics"]["nearness"] = {
        "values": {"nearness_x": nearness, "nearness_gap_x": abs(nearness - 0.5)}, "settings": settings, "details": {},
    }  # fmt: skip
    return result


def made(folder: Path, seed: int = 1, best: int | None = 100, **options: Any) -> Path:
    values = {step + 10 * seed: value for step, value in VALUES.items()}
    made = make_run(folder, config(seed), [measured(step, value, **options) for step, value in values.items()])
    if best is not None:
        state = {"EvaluateGenerator": {"keep_best": "nearness_gap_x"}}
        torch.save({"global_step": best, "callbacks": state}, made / "checkpoints" / "best.ckpt")
    return made


def test_it_is_read_off_the_checkpoint_and_the_evaluations(tmp_path: Path):
    found = stopping_of(read_run(made(tmp_path / "a")))
    assert (found.best, found.by, found.copying, found.watched) == (100, "nearness_gap_x", 160, True)
    assert found.shown_by is not None
    assert found.shown_by.startswith("nearness_x is 0.8,")
    assert stopping_of(read_run(made(tmp_path / "few", best=None, shots=4))) == Stopping()  # four cannot show it
    plain = make_run(tmp_path / "plain", config(), [evaluation(100, 1.0, 2.0)])
    torch.save({"global_step": 100}, plain / "checkpoints" / "best.ckpt")
    assert stopping_of(read_run(plain)) == Stopping(best=100)
    (plain / "checkpoints" / "best.ckpt").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"best\.ckpt: truncated or not a checkpoint"):
        stopping_of(read_run(plain))


def test_marks_lie_on_the_lines_of_all_evaluations(tmp_path: Path):
    runs = [made(tmp_path / "a_seed1", 1, best=110), made(tmp_path / "a_seed2", 2, best=70)]
    [group] = groups = grouped([read_run(run) for run in runs])
    found = {one.title: one for one in charts(groups)}
    assert found["nearness_x"].marks == [
        Mark(group.name, "best", 110, 0.45, "a, seed 1: best.ckpt, step 110, 0.45"),
        Mark(group.name, "copying", 160, 0.8, "a, seed 1: copying begins, step 160, 0.8"),
        Mark(group.name, "best", 70, 0.2, "a, seed 2: best.ckpt, step 70, 0.2"),
        Mark(group.name, "copying", 170, 0.8, "a, seed 2: copying begins, step 170, 0.8"),
    ]
    assert [(mark.step, mark.value) for mark in found["fid"].marks] == [(110, 8.9), (160, 8.4), (70, 9.3), (170, 8.3)]

    drawn = str(chart(found["nearness_x"], {"a": 0}))
    first, second = (line.split("L") for line in re.findall(r'class="line[^"]*" d="M([^"]*)"', drawn))
    shapes = re.findall(r'class="mark (\w+) [^"]*" d="M([\d.]+ [\d.]+)', drawn)
    assert shapes == [("best", first[1]), ("copying", first[2]), ("best", second[0]), ("copying", second[2])]


def test_a_step_that_was_not_evaluated_has_no_mark(tmp_path: Path):
    groups = grouped([read_run(made(tmp_path / "a", best=77))])
    assert {mark.kind for one in charts(groups) for mark in one.marks} == {"copying"}


def test_the_page_says_both_steps(tmp_path: Path):
    def told(*runs: Path) -> str:
        groups = grouped([read_run(run) for run in runs])
        return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", curves_section(groups, {g.name: 0 for g in groups})))

    page = told(made(tmp_path / "one"), make_run(tmp_path / "two", config(2), [evaluation(100, 1.0, 2.0)]))
    assert "one seed 1 step 100 by nearness_ gap_ x from step 160 on nearness_x is 0.8" in page
    assert page.count("two") == 1  # in the key: it has neither
    assert "none kept not seen" in told(
        make_run(tmp_path / "calm", config(), [measured(step, 0.5) for step in (100, 200)])
    )
    assert "best.ckpt" not in told(make_run(tmp_path / "plain", config(), [evaluation(100, 1.0, 2.0)]))

"""The command of docs/evidence.md: what it plans, how it goes on, and that the page says what the rows say."""

import csv
import json
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from PIL import Image

TOP = Path(__file__).parents[2]
sys.path.append(str(TOP))

from scripts.evidence import __main__ as command  # noqa: E402
from scripts.evidence import attributes, page, plan, results  # noqa: E402
from scripts.evidence.plan import TOY, Run, runs  # noqa: E402
from scripts.evidence.sets import SETS, SHOTS, TRUE, Avatars  # noqa: E402
from tenshot.datamodules import FewShot  # noqa: E402

# The page


def test_the_page_says_what_the_rows_say():
    text = (TOP / "docs" / page.PAGE).read_text()
    assert page.filled(text, results.read(TOP / "docs" / results.FILE)) == text


def test_the_page_has_a_place_for_all_that_is_run():
    found = {tuple(match) for match in page.BLOCK.findall((TOP / "docs" / page.PAGE).read_text())}
    places = {(kind, name, target) for kind, name, target, _ in found}
    for of in SETS.values():
        assert {(kind, of.name, target) for kind in ("table", "picture") for target in of.targets} <= places
        assert {(kind, of.name, "") for kind in ("protocol", "order", "sweep", "trade_off", "omitted")} <= places


def rows() -> list[results.Row]:
    """Of two methods with three seeds and one with two, made up."""
    values = {
        "fine-tuned": [(10.0, 2.0), (20.0, 4.0), (30.0, 6.0)], "DDPM-PA": [(9.0, 3.0), (21.0, 5.0), (29.0, 5.0)],
        "CDC": [(1.0, 1.0), (2.0, "")],
    }  # fmt: skip
    about = {"set": "avatars", "target": "lorelei", "group": "methods", "minutes": "60", "near_copies": "0.5"}
    return [
        about | {"method": method, "seed": str(seed), "fd": str(fd), "intra_dist": str(diversity)}
        for method, pairs in values.items()
        for seed, (fd, diversity) in enumerate(pairs, start=1)
    ]


def test_a_table_has_means_and_deviations_of_what_is_there():
    marked = (
        "a\n<!-- evidence: table avatars lorelei -->\nold\n<!-- end -->\nb\n<!-- evidence: table faces babies -->\n"
    )
    made = page.filled(marked + "older\n<!-- end -->\n", rows())
    assert "old" not in made
    assert "| lorelei | n | fd | intra_dist | near_copies |" in made
    assert "| fine-tuned | 3 | 20.0 ± 10.0 | 4.00 ± 2.00 | 0.500 ± 0.000 |" in made
    assert "| CDC | 2 | 1.5 ± 0.7 | 1.00 | 0.500 ± 0.000 |" in made  # where one value is undefined
    assert made.startswith("a\n<!-- evidence: table avatars lorelei -->\n\n| lorelei")
    assert made.endswith("b\n<!-- evidence: table faces babies -->\n<!-- end -->\n")


def test_the_order_is_counted_over_seeds_that_both_have():
    made = page.filled("<!-- evidence: order avatars -->\n<!-- end -->", rows())
    assert "| lorelei: DDPM-PA than fine-tuned | 2 of 3 | 2 of 3 | 0 of 3 |" in made  # less of fd, more of intra_dist
    assert "| lorelei: DDPM-PA than CDC | 0 of 2 | 1 of 1 | 0 of 2 |" in made
    assert "TGAN" not in made


def test_what_is_omitted_is_said():
    made = page.filled("<!-- evidence: omitted avatars -->\n<!-- end -->", rows())
    assert "StyleGAN2" in made
    assert "Not run yet: CDC on lorelei with seed 3." in made
    assert "Not run yet: MixDL on openpeeps with seed 1." in made
    assert "MixDL on openpeeps with seed 2" not in made  # not planned
    assert "Not run yet: TGAN on lorelei with seed 1, 2, 3." in made
    assert "CDC on lorelei with seed 2" not in made


def test_the_sweep_stands_beside_what_it_varies():
    swept = rows()[0] | {"group": "sweep", "method": "DDPM-PA 0.667, 3 x steps", "fd": "7"}
    made = page.filled("<!-- evidence: sweep avatars -->\n<!-- end -->", [*rows(), swept])
    lines = [line for line in made.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[:3] for line in lines[1:]] == [
        ["| DDPM-PA", "1", "9.0"],
        ["| DDPM-PA 0.667, 3 x steps", "1", "7.0"],
    ]


# Rows


def finished(run: Run, where: str, step: int, **values: float | None) -> None:
    folder = run.folder / where / "evaluations"
    folder.mkdir(parents=True, exist_ok=True)
    content = {"values": values, "step": step, "samples": 24}
    (folder / f"step={step:08d}.json").write_text(json.dumps(content))


def test_rows_are_of_what_is_finished(tmp_path: Path):
    watched = next(run for run in runs(tmp_path, ["avatars"]) if run.name == "fine-tuned")
    finished(watched, "last", 200, fd_efficientnet_lite0=9.5)  # of a plan with fewer steps
    assert results.gathered(tmp_path, runs(tmp_path, ["avatars"])) == []
    finished(watched, "last", 300, fd_efficientnet_lite0=3.5, near_copies_efficientnet_lite0=None)
    finished(watched, "best", 160, fd_efficientnet_lite0=2.5, intra_dist_efficientnet_lite0_std=0.25)
    (watched.folder / "seconds.csv").write_text("train,60.0\ntrain,30.0\nlast,60.0\nbest,120.0\n")
    last, best = results.gathered(tmp_path, runs(tmp_path, ["avatars"]))
    assert (last["method"], last["fd"], last["near_copies"]) == ("fine-tuned", "3.5", "")
    assert (best["method"], best["step"], best["fd"]) == ("fine-tuned, stopped", "160", "2.5")
    assert best["intra_dist_std"] == "0.25"
    assert float(last["minutes"]) + float(best["minutes"]) == pytest.approx(4.5)  # the training counts once


def test_rows_of_the_other_set_are_kept(tmp_path: Path):
    kept = [{"set": "faces", "fd": "1"}, {"set": "avatars", "fd": "2"}]
    merged = results.with_new(kept, [{"set": "avatars", "fd": "3", "vendi": "4"}])
    results.write(merged, tmp_path / "rows.csv")
    found = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert [(row["set"], row["fd"], row["vendi"]) for row in found] == [("faces", "1", ""), ("avatars", "3", "4")]
    assert results.read(tmp_path / "nothing.csv") == []


def test_what_is_not_whole_is_published_only_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TENSHOT_EVIDENCE", raising=False)
    monkeypatch.setattr(command, "adapt", lambda wanted, jobs: True)
    (tmp_path / "docs").mkdir()
    empty = "<!-- evidence: table avatars openpeeps -->\n<!-- end -->\n"
    (tmp_path / "docs" / page.PAGE).write_text(empty)
    planned = runs(Path("runs/evidence"), ["avatars"])
    tgan = next(run for run in planned if run.name == "TGAN")
    finished(tgan, "last", 400, fd_efficientnet_lite0=3.5, intra_dist_efficientnet_lite0=1.0)
    for folder, mode, count in ((tgan.of.folder(tgan.root, tgan.target, 1) / "shots", "RGBA", 10),
                                (tgan.folder / "last/images", "RGB", 12)):  # fmt: skip
        folder.mkdir(parents=True)
        for number in range(count):
            Image.new(mode, (64, 64), "red").save(folder / f"{number:06d}.png")
    monkeypatch.setattr(sys, "argv", ["evidence", "--set", "avatars"])
    assert command.main() == 0
    assert (tmp_path / "docs" / page.PAGE).read_text() == empty
    assert not (tmp_path / "docs" / results.FILE).exists()
    monkeypatch.setattr(sys, "argv", ["evidence", "--set", "avatars", "--finished"])
    assert command.main() == 0
    assert "| TGAN | 1 | 400 | 3.5 |" in (tmp_path / "docs" / page.PAGE).read_text()
    assert (tmp_path / "docs/images/evidence_avatars_trade_off.png").is_file()
    grid = Image.open(tmp_path / "docs/images/evidence_avatars_openpeeps.png")
    assert [grid.getpixel((-32 % grid.width, y)) for y in (32, 97)] == [(255, 255, 255), (255, 0, 0)]  # 10 above 12


# The plan


def test_the_plan_is_whole_and_fits_ten_hours_of_two_cores(tmp_path: Path):
    planned = runs(tmp_path)
    assert len({run.folder for run in planned}) == len(planned)
    compared = [run for run in planned if run.method and run.method.group == "methods" and run.target != "source"]
    for target in ("sunglasses", "babies", "openpeeps", "lorelei"):
        names = [(run.name, run.seed) for run in compared if run.target == target]
        three = ("from scratch", "fine-tuned", "DDPM-PA", "TGAN", "CDC")
        assert sorted(names) == sorted([(name, seed) for name in three for seed in (1, 2, 3)] + [("MixDL", 1)])
    assert sum(run.method is not None and run.method.group == "sweep" for run in planned) <= 6
    assert plan.hours(planned) < 20
    assert planned[0].target == "source"  # which others wait for
    seeds = [run.seed for run in planned]
    assert seeds == sorted(seeds)  # where time runs out, all methods have the first seeds
    for run in planned:
        assert run.method is None or (TOP / run.method.recipe).is_file()


def test_the_estimate_is_arithmetic_and_leaves_out_what_is_finished(tmp_path: Path):
    run = next(run for run in runs(tmp_path, ["faces"]) if run.name == "TGAN")
    train, last = run.tasks()
    assert train.seconds == pytest.approx(12 + 400 * 4 * 0.11)
    assert last.seconds == pytest.approx(12 + (200 + 1000) * 0.025 + 200 * (0.035 + 0.02))
    assert plan.hours([run]) == pytest.approx((train.seconds + last.seconds) / 3600)
    (run.folder / "train/checkpoints").mkdir(parents=True)
    (run.folder / "train/checkpoints/step=00000200.ckpt").touch()
    assert plan.hours([run]) == pytest.approx((train.seconds + last.seconds) / 3600)  # half of it
    (run.folder / "train/checkpoints/step=00000400.ckpt").touch()
    assert plan.hours([run]) == pytest.approx(last.seconds / 3600)


def test_the_watch_is_of_the_training_that_is_measured_at_its_end_too(tmp_path: Path):
    run = next(run for run in runs(tmp_path, ["avatars"]) if run.name == "fine-tuned")
    train, last, best = run.tasks()
    assert "--evaluate.keep_best nearness_gap_efficientnet_lite0" in train.line
    assert f"{run.folder}/train/checkpoints/step=00000300.ckpt" in last.argv
    assert f"{run.folder}/train/checkpoints/best.ckpt" in best.argv
    assert run.measured == {"fine-tuned": "last", "fine-tuned, stopped": "best"}


@pytest.mark.parametrize("method", ["from scratch", "fine-tuned", "MixDL"])  # the others are made as these
def test_tenshot_takes_the_options(tenshot: tiny.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str):
    monkeypatch.chdir(TOP)
    run = next(run for run in runs(tmp_path, ["avatars"], TOY) if run.name == method)
    outcome = tenshot(*run.tasks()[0].argv, "--print_config")
    assert outcome.status == 0, outcome.err
    asked = yaml.safe_load(outcome.out)
    assert asked["data"]["init_args"]["root"] == str(run.of.folder(tmp_path, run.target, 1) / "shots")
    assert (asked["data"]["init_args"]["image_size"], asked["trainer"]["max_steps"]) == (64, 4)
    network = asked["model"]["init_args"]
    assert all(part.get("image_size", 64) == 64 for part in network.values() if isinstance(part, dict))


def test_some_runs_are_chosen_with_what_they_need(tmp_path: Path):
    planned = runs(tmp_path)
    assert [run.title for run in command.chosen(planned, "CDC/2/lorelei")] == [
        "source of the GANs/0/source",
        "CDC/2/lorelei",
    ]
    assert [run.title for run in command.chosen(planned, "*/3/babies")] == [
        f"{name}/3/babies" for name in ("true images", "from scratch", "fine-tuned", "DDPM-PA", "TGAN", "CDC")
    ]
    tiny.refusal(lambda: command.chosen(planned, "CDD/2/lorelei"), "--only", "did you mean 'CDC/2/lorelei'")


def test_the_judge_knows_copies_and_variety(monkeypatch: pytest.MonkeyPatch):
    """With a network that nobody trained: spread and distance are 1 and 0 for the true images themselves."""
    monkeypatch.setattr(attributes, "TRUE", 20)
    torch.manual_seed(0)
    network = attributes.AttributeNetwork().eval()
    truth = attributes.Truth.of(network, "babies", 1)
    itself = truth.measure(network, truth.real, "babies")
    assert (itself["spread"], itself["near_copies_pixels"]) == (pytest.approx(1), pytest.approx(1 / 20))
    assert itself["fd_attributes"] == pytest.approx(0, abs=1e-3)
    copies = truth.measure(network, truth.shots.repeat(2, 1, 1, 1).flip(-1), "babies")
    assert copies["near_copies_pixels"] == 1  # mirrored ones too
    assert copies["fd_attributes"] > 10 * abs(itself["fd_attributes"])
    grey = truth.measure(network, truth.real[:1].expand_as(truth.real), "babies")
    assert grey["spread"] == pytest.approx(0, abs=1e-4)


# The images


def test_avatars_are_split_as_few_shot_chooses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    avatars = Avatars()
    monkeypatch.setattr(Avatars, "archives", tmp_path)
    every, number = tmp_path / "every", SHOTS + 2 * TRUE
    every.mkdir()
    with zipfile.ZipFile(tmp_path / "lorelei64.zip", "w") as archive:
        for index in range(number):
            buffer = BytesIO()
            Image.new("RGB", (16, 16), (index % 256, index // 256, 0)).save(buffer, "PNG")
            archive.writestr(f"lorelei64/{index:06d}.png", buffer.getvalue())
            (every / f"{index:06d}.png").write_bytes(buffer.getvalue())
    parts = {}
    for seed in (1, 2):
        avatars.prepare(tmp_path / "root", "lorelei", seed)
        folder = avatars.folder(tmp_path / "root", "lorelei", seed)
        found = {name: {file.name for file in (folder / name).iterdir()} for name in ("shots", "others/measured")}
        found["rest"] = {file.name for file in (folder / "others/rest").iterdir()}
        assert set.union(*found.values()) == {file.name for file in every.iterdir()}
        assert sum(map(len, found.values())) == number  # none twice
        assert len(found["others/measured"]) == TRUE
        chosen = FewShot(root=str(every), shots=SHOTS, seed=seed, image_size=16).data_record()["train"]["names"]
        assert found["shots"] == set(chosen)
        parts[seed] = found["shots"]
        assert (folder / "shots" / chosen[0]).read_bytes() == (every / chosen[0]).read_bytes()
    assert parts[1] != parts[2]


def test_what_is_missing_is_said_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Avatars, "archives", tmp_path)
    monkeypatch.setattr(Avatars, "sources", {"ddpm": None, "stylegan2": None})
    tiny.refusal(Avatars().check, "avataaars64.zip", "make avatars")
    monkeypatch.setattr(Avatars, "sources", {"ddpm": "tenshot:no_such_source"})
    tiny.refusal(Avatars().check, "tenshot:no_such_source", "make sources")

"""Curves, images and cost."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_folders import START, config, evaluation, make_run, random_images

from tenshot.datamodules import SyntheticFaces
from tenshot.errors import InputError
from tenshot.reports import grouped, read_run
from tenshot.reports.cost import cost_of
from tenshot.reports.curves import POINTS, charts, logged, thinned
from tenshot.reports.images import common_numbers, distance_matrix, nearest_of, shot_sets
from tenshot.reports.section_runs import cost_section
from tenshot.reports.sheet import LINE, MARGIN, sheet
from tenshot.reports.shots import NotAvailable, shots_of
from tenshot.reports.svg import chart


def faces() -> SyntheticFaces:
    return SyntheticFaces(**config()["data"]["init_args"])


def test_a_log_is_read_over_resumes_and_a_torn_row(tmp_path: Path):
    rows = [{"step": step, "epoch": 0, "train/loss": 1.0 / (step + 1)} for step in (0, 1, 2)]
    run = make_run(tmp_path / "a", config(), log=rows)
    (run / "logs/version_1").mkdir()
    (run / "logs/version_1/metrics.csv").write_text("step,train/loss,val/loss\n2,7.0,\n3,8.0,5.0\n4,9")
    assert logged(read_run(run)) == {"train/loss": [(0, 1.0), (1, 0.5), (2, 7.0), (3, 8.0)], "val/loss": [(3, 5.0)]}
    (run / "logs/version_1/metrics.csv").write_text("step,train/loss\n2,much\n")
    with pytest.raises(InputError, match=r"metrics\.csv, line 2: not a row of numbers"):
        logged(read_run(run))


def test_charts_of_evaluations_and_losses(tmp_path: Path):
    log = [{"step": s, "train/loss": 1.0 + s, "train/mse_q0": 2.0, "eval/fid": 3.0} for s in range(4)]
    results = [evaluation(step, step / 100, 0.1, samples=50) for step in (100, 200)]
    other = [evaluation(step, step / 50, 0.1, samples=20) for step in (100, 200)]
    final = evaluation(300, 1.0, 0.1, samples=200)
    a = read_run(make_run(tmp_path / "a", config(), [*results, final], log=log))
    b = read_run(make_run(tmp_path / "b", config(), other, log=log[:1]))
    found = {(one.title, one.note): one for one in charts(grouped([a, b]))}
    assert found["fid", ""].lines == {"a": [[(100, 1.0), (200, 2.0)]]}
    assert found["fid", "n_generated 20, not 50"].lines == {"b": [[(100, 2.0), (200, 4.0)]]}
    assert found["train/loss", ""].lines == {"a": [[(s, 1.0 + s) for s in range(4)]]}
    assert found["train/mse_q0", ""].minor
    assert ("eval/fid", "") not in found  # its file says how it was measured


def test_long_lines_are_averaged_and_holes_left_out():
    line = [(float(s), float(s % 2)) for s in range(10 * POINTS)]
    short = thinned([*line, (1e9, float("nan"))])
    assert len(short) == POINTS
    np.testing.assert_allclose([value for _, value in short], 0.5)
    assert short[0][0] == 4.5


def test_a_wide_range_is_drawn_on_a_logarithmic_axis(tmp_path: Path):
    run = read_run(make_run(tmp_path / "a", config(), log=[{"step": s, "loss": 10.0**-s} for s in range(4)]))
    [one] = charts(grouped([run]))
    drawn = chart(one, {"a": 0})
    assert "logarithmic" in drawn
    path = drawn.split('class="line')[1].split('d="M')[1].split('"')[0]
    heights = [float(point.split()[1]) for point in path.split("L")]
    np.testing.assert_allclose(np.diff(heights), np.diff(heights)[0], atol=0.11)  # a straight line, then


def test_shots_are_made_again_from_the_configuration(tmp_path: Path):
    expected = faces().train_source.read(range(3))["image"].permute(0, 2, 3, 1).numpy()
    run = read_run(make_run(tmp_path / "a", config()))
    np.testing.assert_array_equal(shots_of(run), expected)
    [row] = shot_sets(grouped([run]))
    assert row.title == "training images"
    np.testing.assert_array_equal(row.images, expected)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"class_path": "os.path.Evil", "init_args": {}}, "no data set of tenshot's"),
        ({"class_path": "tenshot.datamodules.FewShot", "init_args": {"root": "/absent", "image_size": 16}}, "/absent"),
        ({"class_path": "SyntheticFaces", "init_args": {"image_size": 16, "num_images": 5000}}, "5000 images"),
        ({"class_path": "SyntheticFaces", "init_args": {"sides": 3}}, "does not fit this version"),
        (None, "no configuration of its data"),
    ],
)
def test_shots_that_are_not_to_be_had_say_why(tmp_path: Path, data: object, told: str):
    run = read_run(make_run(tmp_path / "a", config() | {"data": data}, images=random_images(2, 0)))
    with pytest.raises(NotAvailable, match=told):
        nearest_of(run)


def test_the_nearest_shot_is_found_mirrored_too(tmp_path: Path):
    shots = faces().train_source.read(range(3))["image"].permute(0, 2, 3, 1).numpy()
    noise = np.random.default_rng(0).integers(-9, 10, shots.shape[1:])
    near = np.clip(shots[1][:, ::-1].astype(int) + noise, 0, 255).astype(np.uint8)
    samples = np.stack([random_images(1, 5)[0], near, random_images(1, 6)[0]])
    found = nearest_of(read_run(make_run(tmp_path / "a", config(), images=samples)))

    every = np.concatenate([shots, shots[:, :, ::-1]]).astype(np.float64)
    distances = np.sqrt(((samples[:, None].astype(np.float64) - every[None]) ** 2).mean(axis=(2, 3, 4)))
    assert found.numbers[0] == 1
    np.testing.assert_array_equal(found.shots[0], shots[1][:, ::-1])
    np.testing.assert_allclose(found.distances, np.sort(distances.min(axis=1)), rtol=1e-9)
    assert found.median == pytest.approx(np.median(distances.min(axis=1)))
    assert found.count == 3


def test_distances_do_not_overflow_bytes():
    a, b = np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 255, np.uint8)
    assert distance_matrix(a, b).tolist() == [[255.0]]
    assert distance_matrix(b, b).tolist() == [[0.0]]


def test_columns_are_numbers_that_every_run_has(tmp_path: Path):
    a, b = (make_run(tmp_path / name, config(), images=random_images(n, n)) for name, n in (("a", 4), ("b", 6)))
    (b / "images" / "000001.png").unlink()
    make_run(tmp_path / "c", config())  # which has none, and takes nothing from the others
    assert common_numbers(grouped([read_run(tmp_path / name) for name in "abc"])) == [0, 2, 3]
    Image.new("RGB", (8, 8)).save(a / "images" / "000002.png")
    from tenshot.reports.images import read_images

    with pytest.raises(InputError, match=r"000002\.png: is 8 x 8"):
        read_images([a / "images" / f"00000{i}.png" for i in (0, 2)])
    (a / "images" / "000003.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"000003\.png: cannot be read"):
        read_images([a / "images" / "000003.png"])


def test_runs_without_metrics_have_images_and_no_table(tmp_path: Path):
    groups = grouped([read_run(make_run(tmp_path / "a", config(), images=random_images(10, 0)))])
    drawn = sheet(groups, [], [])
    tile = (drawn.width - 2 * MARGIN) // 10
    assert drawn.height == 2 * MARGIN + LINE + tile
    ink = (np.asarray(drawn) < 255).any(axis=(1, 2))
    assert ink[MARGIN : MARGIN + LINE].any()
    assert not ink[:MARGIN].any()


def test_cost_of_a_run_that_did_not_log_it_is_by_the_times_of_files(tmp_path: Path):
    settings = config()
    settings["trainer"] |= {"accelerator": "gpu", "devices": 4, "num_nodes": 2, "accumulate_grad_batches": 3}
    cost = cost_of(read_run(make_run(tmp_path / "a", settings, log=[{"step": 0, "train/loss": 1.0}], minutes=90)))
    assert (cost.steps, cost.images, cost.devices, cost.device) == (300, 300 * 4 * 3 * 8, 8, "GPU")
    assert cost.hours == pytest.approx(1.5)
    assert cost.device_hours == pytest.approx(12)
    assert (cost.rate, cost.memory, cost.logged) == (None, None, False)


def test_cost_is_read_off_the_log(tmp_path: Path):
    hours = {"speed/gpu_hours": 0.25, "speed/pictures_per_second": 40.0}  # as it was called
    rows = [{"step": s, "train/loss": 1.0, "speed/peak_memory_gib": 3.0 - s} | hours for s in range(2)]
    rows += [{"step": 2, "train/loss": 1.0, "speed/gpu_hours": 0.75, "speed/images_per_second": 70.0}]
    settings = config()
    settings["trainer"] |= {"accelerator": "auto", "devices": 2}
    run = make_run(tmp_path / "a", settings, log=rows, minutes=90)
    cost = cost_of(read_run(run))
    assert (cost.device_hours, cost.device, cost.hours, cost.logged) == (0.75, "GPU", 0.375, True)
    assert (cost.rate, cost.memory) == (40.0, 3.0)
    page = cost_section(grouped([read_run(run)]), {"a": 0})
    for cell in ("0.75 GPU-hours <small>2 GPUs</small>", "3 GiB", "22.5 min", ">40<"):
        assert cell in page
    assert "speed/gpu_hours" not in {one.title for one in charts(grouped([read_run(run)]))}


def test_what_was_not_recorded_is_none(tmp_path: Path):
    settings = config()
    settings["trainer"] |= {"accelerator": "auto", "devices": "auto"}
    cost = cost_of(read_run(make_run(tmp_path / "a", settings)))
    assert (cost.devices, cost.device, cost.device_hours, cost.images, cost.memory, cost.rate) == (None,) * 6
    bare = cost_of(read_run(make_run(tmp_path / "b", None, [evaluation(0, 1.0, 1.0)], minutes=None)))
    assert (bare.steps, bare.hours) == (None, None)


def test_times_of_copies_are_not_believed(tmp_path: Path):
    quick = make_run(tmp_path / "quick", config(), minutes=0.01)  # 300 steps in 0.6 seconds
    assert cost_of(read_run(quick)).hours is None
    run = make_run(tmp_path / "late", config(), [evaluation(300, 1.0, 1.0)])
    assert cost_of(read_run(run)).hours == pytest.approx(1 / 3)
    file = run / "evaluations" / "step=00000300.json"
    os.utime(file, (START + 86400,) * 2)  # a day after the date in it
    assert cost_of(read_run(run)).hours is None

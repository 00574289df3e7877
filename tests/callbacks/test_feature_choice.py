"""Which networks measure where none are named: decided before anything is drawn, said, and kept by a run."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny

from tenshot.callbacks.feature_choice import features_decided
from tenshot.callbacks.metric_choice import Requests, build, chosen_metrics
from tenshot.cli.renamed_options import without_former_options
from tenshot.errors import InputError
from tenshot.metrics import CMMD, KernelDistance
from tenshot.models.pretrained import weight_files

EVERY = [
    "frechet", "kernel", "precision_recall", "density_coverage", "vendi", "intra_lpips", "nearest_lpips",
    "pairwise_lpips", "authenticity", "data_copying", "near_copies", "nearness",
]  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's cache, empty, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "*")
    for name, url in list(weight_files.URLS.items()):
        monkeypatch.setitem(weight_files.URLS, name, f"http://127.0.0.1:9/{url.rsplit('/', 1)[1]}")
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def put(cache: Path, *names: str) -> None:
    for name in names:
        (cache / weight_files.URLS[name].rsplit("/", 1)[1]).touch()


def requests(**changes: Any) -> Requests:
    fields: dict[str, Any] = {
        "metrics": None, "features": "auto", "inception_weights": None, "vgg16_weights": None, "lpips_resize": None,
        "path_length": "wend",
    }  # fmt: skip
    return Requests(**(fields | changes))


def decided(folder: Path, names: list[str] = EVERY, **changes: Any) -> Requests:
    strategy = SimpleNamespace(broadcast=lambda value: value)
    trainer: Any = SimpleNamespace(default_root_dir=str(folder), strategy=strategy, local_rank=0, world_size=1)
    return features_decided(requests(**changes), names, trainer)


def evaluated(folder: Path, name: str, date: str, **features: str) -> None:
    (folder / "evaluations").mkdir(exist_ok=True)
    metrics = {metric: {"settings": {"features": used}} for metric, used in features.items()}
    (folder / "evaluations" / name).write_text(json.dumps({"date": date, "metrics": metrics}))


def test_published_networks_measure_where_all_their_weights_are_there(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    put(cache, "inception")
    assert decided(tmp_path, ["frechet", "kernel"]).features == "published"
    assert "features: published (inception)" in caplog.text
    assert decided(tmp_path).features == "efficientnet_lite0"
    put(cache, "vgg16")
    assert decided(tmp_path).features == "published"


def test_else_efficientnet_lite0_does_and_says_why_in_one_line(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    put(cache, "vgg16")
    assert decided(tmp_path, ["intra_lpips", "path_length"]).features == "published"
    caplog.clear()
    asked = decided(tmp_path, lpips_resize=256)
    assert asked == requests(features="efficientnet_lite0")
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("features: efficientnet_lite0, for inception weights could not be downloaded")
    assert "refused" in line
    assert line.endswith("--evaluate.features published demands them; --evaluate.lpips_resize does not apply")
    names = {name for metric in EVERY for name in build(metric, asked).names()}
    assert all("_efficientnet_lite0" in name for name in names)


@pytest.mark.parametrize("named", ["random", "published", "pytorch_fid", "adm", "efficientnet_lite0"])
def test_networks_that_were_named_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str):
    monkeypatch.setattr(weight_files, "_answer", lambda *words: pytest.fail("was asked"))
    assert decided(tmp_path, features=named) == requests(features=named)


@pytest.mark.parametrize("option", ["inception_weights", "vgg16_weights"])
def test_who_gives_weights_means_the_published_networks(tmp_path: Path, option: str):
    assert decided(tmp_path, **{option: "own.pth"}).features == "published"


def test_a_run_keeps_the_networks_of_its_first_evaluation(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    (tmp_path / "evaluations").mkdir()
    for name, content in (("torn.json", "{"), ("list.json", "[]"), ("other.json", '{"metrics": {"a": 1}}')):
        (tmp_path / "evaluations" / name).write_text(content)
    evaluated(tmp_path, "named.json", "2024", frechet="random", intra_lpips="dist_random")
    put(cache, "vgg16", "inception")
    assert decided(tmp_path).features == "published"
    evaluated(tmp_path, "b.json", "2025", intra_lpips="dist_efficientnet_lite0")
    assert decided(tmp_path).features == "efficientnet_lite0"
    assert "features: efficientnet_lite0, as in this run's earlier evaluations" in caplog.text
    evaluated(tmp_path, "a.json", "2026", frechet="inception")
    assert decided(tmp_path).features == "efficientnet_lite0"
    evaluated(tmp_path, "c.json", "2024", intra_lpips="lpips")
    assert decided(tmp_path).features == "published"
    for file in cache.iterdir():
        file.unlink()
    assert decided(tmp_path).features == "efficientnet_lite0"
    assert "otherwise than in this run's earlier evaluations" in caplog.text


def test_images_are_measured_by_trained_features_without_a_network(tenshot: tiny.Run, trained: Path, tmp_path: Path):
    few = ["--evaluate.samples", "4", "--evaluate.reference", "4", "--data.shots", "3", "--data.num_val", "0"]
    outcome = tenshot("test", "--ckpt_path", trained, "--trainer.default_root_dir", tmp_path, *few)
    assert outcome.status == 0, outcome.err
    assert "features: efficientnet_lite0, for " in outcome.log
    [path] = (tmp_path / "evaluations").iterdir()
    result = json.loads(path.read_text())
    assert result["metrics"].keys() >= set(EVERY)
    for name in ("fd", "kd", "precision", "recall", "intra_dist", "nearest_dist", "pairwise_dist"):
        assert f"{name}_efficientnet_lite0" in result["values"]
        assert f"{name}_efficientnet_lite0" in outcome.out


def test_the_former_name_of_the_published_networks_is_read_with_a_line(
    tenshot: tiny.Run, trained: Path, tmp_path: Path
):
    """Which is seen by what is missing: the published weights."""
    old = tiny.write_yaml(tmp_path / "old.yaml", {"evaluate": {"features": "trained", "metrics": ["frechet"]}})
    words = ["--config", trained / "config.yaml", "--config", old, "--ckpt_path", trained]
    outcome = tenshot("test", *words, "--trainer.default_root_dir", tmp_path)
    assert "inception weights could not be downloaded" in outcome.complaint
    assert "--evaluate.features trained is now called published" in outcome.log
    for words in (["--evaluate.features", "trained", "-x"], ["--evaluate.features=trained"]):
        assert without_former_options(words) == [word.replace("trained", "published") for word in words]
    assert without_former_options(["--evaluate.save", "trained"]) == ["--evaluate.save", "trained"]


def test_in_a_script_the_former_name_is_refused_with_the_one_of_now():
    with pytest.raises(InputError, match=r"features 'trained' is unknown \(now called published\): choose one of auto"):
        requests(features="trained")


def test_a_side_for_lpips_is_refused_where_there_is_no_lpips():
    with pytest.raises(InputError, match="lpips_resize is for LPIPS, but efficientnet_lite0 resizes images by itself"):
        requests(features="efficientnet_lite0", lpips_resize=64)


@pytest.mark.parametrize(
    ("features", "of_frechet", "of_precision", "of_distance"),
    [
        ("published", "inception", "vgg16", "vgg"),
        ("pytorch_fid", "inception_pytorch_fid", "vgg16", "vgg"),
        ("adm", "inception", "inception", "vgg"),
        ("efficientnet_lite0", *["efficientnet_lite0"] * 3),
        ("random", *["random"] * 3),
        ("dinov2", "dinov2", "dinov2", "efficientnet_lite0"),
        ("clip", "clip", "clip", "efficientnet_lite0"),
    ],
)
def test_each_choice_has_its_networks(features: str, of_frechet: str, of_precision: str, of_distance: str):
    asked = requests(features=features, vit_weights="a.pth" if features in ("dinov2", "clip") else None)
    metrics = {name: build(name, asked) for name in chosen_metrics(asked, ("reference", "shots"), thorough=True)}
    used = {name: metric.features._asked for name, metric in metrics.items()}  # type: ignore[attr-defined]
    for name in ("frechet", "kernel", "vendi", "authenticity", "data_copying", "near_copies"):
        assert used[name] == of_frechet
    assert used["precision_recall"] == used["density_coverage"] == of_precision
    assert isinstance(metrics["kernel"], CMMD if features == "clip" else KernelDistance)
    assert used["intra_lpips"] == used["nearest_lpips"] == used["pairwise_lpips"] == of_distance


@pytest.mark.parametrize("changes", [{"features": "dinov2"}, {"features": "clip"}, {"vit_weights": "a.pth"}])
def test_the_file_of_a_transformer_goes_with_its_features(changes: dict[str, str]):
    with pytest.raises(InputError, match=r"vit_weights is the file of --evaluate\.features dinov2 or clip"):
        requests(**changes)


def test_consistency_is_computed_where_images_are_enlarged_and_said_to_need_that():
    assert chosen_metrics(requests(), ("shots", "low_res"), thorough=False)[-1] == "consistency"
    assert "consistency" not in chosen_metrics(requests(), ("shots",), thorough=True)
    with pytest.raises(InputError, match=r"consistency needs images that were enlarged: take a SuperResolution"):
        chosen_metrics(requests(metrics=["consistency"]), ("shots",), thorough=True)

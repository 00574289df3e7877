"""Measured numbers in the documentation, with made-up rows in a copy: no such card exists."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from benchmarks.gpu import numbers
from benchmarks.gpu.results import keep

ROOT = Path(__file__).parents[2]
CARD = "NVIDIA X9 12345 GB TEST"
GIB = 2**30
STEP = {"ms": 1234.0, "tflops": 77.0, "share": 0.123, "peak_gib": 99.0, "batch": 8, "precision": "bf16-mixed"}


def row(stage: str, name: str, status: str = "ok", **values: object) -> dict[str, object]:
    return {"stage": stage, "name": name, "status": status, **values}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for folder in ("docs", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("images", "__pycache__"))
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    numbers.main(tmp_path)  # takes back what was really measured
    return tmp_path


def texts(folder: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in folder.rglob("*") if path.suffix in (".md", ".yaml")}


def measured(folder: Path, *rows: dict[str, object]) -> None:
    keep(folder / "benchmarks" / "results", CARD, list(rows))
    numbers.main(folder)


def test_without_measurements_the_documentation_says_so(copy: Path):
    for path in (copy / "benchmarks" / "results").glob("gpu_*"):
        path.unlink()
    numbers.main(copy)
    assert "none of these rows has been measured on a GPU yet" in (copy / "docs" / "memory.md").read_text()
    assert "On GPUs none of this has been run by us" in (copy / "docs" / "clusters.md").read_text()
    assert "# Cost: not measured yet." in (copy / "configs" / "ddpm" / "source256.yaml").read_text()


def test_numbers_are_put_in_and_taken_back(copy: Path):
    numbers.main(copy)
    before = texts(copy)
    measured(copy, row("unet256", "eager", **STEP))
    source = (copy / "configs" / "ddpm" / "source256.yaml").read_text()
    assert (
        "# Cost: measured: 1234 ms a step on one X9 in bf16 (batch 8), 99 GiB, 85.7 h for 250000 steps by that rate; "
        "not run to its end.\n" in source
    )
    clusters = (copy / "docs" / "clusters.md").read_text()
    assert "takes 1234 ms a step in bf16 (batch 8): 77 TFLOP/s, 12% of that GPU's" in clusters
    assert "gpu_x9_12345_gb_test.md)" in clusters
    after = texts(copy)
    numbers.main(copy)
    assert texts(copy) == after
    (copy / "benchmarks" / "results" / "gpu_x9_12345_gb_test.json").unlink()
    numbers.main(copy)
    assert texts(copy) == before


def test_what_a_recipe_says_of_its_paper_stays(copy: Path):
    step = STEP | {"batch": 3, "peak_gib": None}
    measured(copy, row("adaptation", "DDPM-PA, all compared, batch 3", **step))
    text = (copy / "configs" / "ddpm_pa" / "ffhq_babies256.yaml").read_text()
    assert "not run to its end; the paper used eight GPUs of 48 GB.\n" in text
    assert "1234 ms a step on one X9 in bf16 (batch 3), 1.37 h for 4000 steps" in text


@pytest.mark.parametrize("other", [{"batch": 16}, {"precision": "32-true"}])
def test_the_step_of_another_batch_or_precision_is_no_recipes_cost(copy: Path, other: dict[str, object]):
    before = (copy / "configs" / "ddpm" / "source256.yaml").read_text()
    measured(copy, row("unet256", "eager", **STEP | other))
    assert (copy / "configs" / "ddpm" / "source256.yaml").read_text() == before


def test_a_failed_row_is_no_measurement(copy: Path):
    before = (copy / "configs" / "ddpm" / "source256.yaml").read_text()
    measured(copy, row("unet256", "eager", "failed", **STEP))
    assert (copy / "configs" / "ddpm" / "source256.yaml").read_text() == before


def test_memory_has_computed_beside_measured(copy: Path, monkeypatch: pytest.MonkeyPatch):
    from benchmarks import memory

    computed = copy / "memory.json"
    kept = {str(setting): {"fixed": GIB, "an_image": 2 * GIB} for setting in memory.SETTINGS}
    computed.write_text(json.dumps({"state": 10 * GIB, "kept": kept}))
    monkeypatch.setattr(memory, "COMPUTED", computed)
    measured(
        copy,
        row("memory", "state", weights_gib=2.0, state_gib=10.25),
        row("memory", "kept float32", an_image_gib=2.5, fixed_gib=0.75),
        row("memory", "float32, 6 images", fits=True, images=6, peak_gib=29.5),
        row("memory", "float32, 48 images", fits=False, images=48),
    )
    text = (copy / "docs" / "memory.md").read_text()
    assert "| float32 | does not fit (107.0) | not run (59.0) | not run (35.0) | 29.5 (23.0) |" in text
    assert "State: 10.25 (10.00)." in text
    assert "Kept, float32: 2.50 (2.00) for each image, 0.75 (1.00) whatever the batch." in text
    assert "the peak of a step was 1.50 to 1.50 times what is kept" in text
    assert "none of these rows has been measured on a GPU yet" not in text


def test_each_recipe_named_is_there_and_its_step_is_of_its_batch():
    """What the stages measure for a recipe must have its batch, or its line would never be filled in."""
    batches = {"eager": 8, "DDPM, batch 6": 6, "float32, TF32": 16, "float32, TF32, batch 4": 4}
    batches |= {"float32, TF32, DiffAugment": 16, "float32, TF32, ADA": 16}
    batches |= {"DDPM, batch 3": 3, "DDPM-PA, all compared, batch 3": 3}
    for name, (stage, step) in numbers.COSTS.items():
        recipe = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
        precision = "32-true" if stage == "stylegan2" else "bf16-mixed"
        said = numbers.cost(recipe, CARD, STEP | {"batch": batches[step], "precision": precision})
        assert said is not None, name
        assert numbers.COST.search((ROOT / "configs" / f"{name}.yaml").read_text()), name

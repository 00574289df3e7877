"""The sources that come with the package are those of docs/sources.md, and the script that makes both."""

import hashlib
import importlib.util
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from PIL import Image

from tenshot.checkpoints import shipped
from tenshot.checkpoints.registry import kind_in
from tenshot.datamodules import SyntheticFaces
from tenshot.lightning_modules import DDPM, NoisyClassifier, Sampler, StyleGAN2

TOP = Path(__file__).parents[2]
FACTS = {
    "sha256": "ab12", "bytes": 7_100_000, "minutes": 118, "processor": "A Processor", "samples": 500, "fd": 41.26,
    "fd_of_truth": 12.04, "largest_difference": 9, "mean_difference": 0.25,
}  # fmt: skip


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script; what it would change of the checkout is a test's."""
    spec = importlib.util.spec_from_file_location("sources_script", TOP / "scripts" / "sources.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "sources_script", module)  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def draw(name: str) -> torch.Tensor:
    """An image of a source, or a classifier's logits."""
    kind = kind_in(name).method
    seeds = torch.arange(1)
    if kind == "NoisyClassifier":
        told = NoisyClassifier(init_from=name)
        told.configure_model()
        return told.classifier.eval()(torch.zeros(1, 3, 64, 64), torch.tensor([10.0]))
    module = DDPM(init_from=name, sampler=Sampler("dpm_solver", 2)) if kind == "DDPM" else StyleGAN2(init_from=name)
    module.configure_model()
    with torch.inference_mode():
        return module.eval().sample(seeds)


def test_what_comes_with_the_package_is_what_the_page_says(sources: Any):
    record, page = json.loads(sources.RECORD.read_text()), sources.PAGE.read_text()
    files = {file.stem: file for file in shipped.FOLDER.iterdir() if file.suffix not in (".py", ".pyc", "")}
    assert {file.suffix for file in files.values()} <= {".safetensors"}
    assert files.keys() == record.keys()
    assert sources.block(record) in page
    assert sum(file.stat().st_size for file in files.values()) < 40e6
    for name, file in files.items():
        assert hashlib.sha256(file.read_bytes()).hexdigest() == record[name]["sha256"]
        assert file.stat().st_size == record[name]["bytes"]
        assert draw(f"{shipped.PREFIX}{name}").isfinite().all()


def test_the_page_says_what_is_known_and_what_is_not_trained(sources: Any):
    text = sources.block({"avatars64": FACTS})
    assert (
        "`tenshot:avatars64` | Avataaars, a diffusion model | 7.1 MB | 41.3 | 12.0 | 118 minutes, A Processor |" in text
    )
    assert "`tenshot:faces64` | drawn faces, a diffusion model | not trained yet |" in text
    assert text.count("not trained yet") == 3
    assert "    ab12  avatars64.safetensors" in text
    assert text.count("![") == 1
    right = {"0.999": 0.9, "0.1": 0.25}
    text = sources.block({"faces64_classifier": {**FACTS, "accuracy": right}})
    assert "90% right where the image is 99.9%, 25% right where the image is 10.0%" in text
    assert "![" not in text


RECIPE = """
model:
  class_path: DDPM
  init_args: {unet: UNET, sampler: {method: dpm_solver, steps: 2}}
data: {class_path: SyntheticFaces, init_args: {image_size: 16, batch_size: 3, num_images: 6, num_val: 0, seed: 0}}
trainer: {max_steps: 1, accelerator: cpu, enable_progress_bar: false, default_root_dir: run}
"""


def test_a_source_is_trained_shipped_and_measured_once(
    sources: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    unet = tiny.UNET | {name: list(value) for name, value in tiny.UNET.items() if isinstance(value, tuple)}
    Path("recipe.yaml").write_text(RECIPE.replace("UNET", json.dumps(unet)))
    for name in ("package", "images"):
        Path(name).mkdir()
    page = f"before\n{sources.BEGIN}old\n{sources.END}after\n"
    Path("page.md").write_text(page)
    Path("record.json").write_text(json.dumps({"avatars64": FACTS}))
    changes = {"TOP": tmp_path, "ROOT": Path("work"), "RECORD": Path("record.json"), "PAGE": Path("page.md"),
               "GRIDS": Path("images"), "SAMPLES": 8, "COMPARED": 4}  # fmt: skip
    for name, value in changes.items():
        monkeypatch.setattr(sources, name, value)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "package")
    monkeypatch.setattr(sources, "SOURCES", {"tiny16": sources.Source("recipe.yaml", "tiny faces")})
    commands: list[str] = []
    run = sources.tenshot
    monkeypatch.setattr(sources, "tenshot", lambda argv: (commands.append(argv[0]), run(argv)))
    monkeypatch.setattr(sys, "argv", ["sources.py", "tiny16"])

    sources.main()
    assert commands == ["fit", "convert", "test", "test", "predict"]
    record = json.loads(Path("record.json").read_text())
    shipped_file = shipped.shipped_file("tenshot:tiny16")
    assert shipped_file is not None
    assert record["avatars64"] == FACTS
    facts = record["tiny16"]
    assert facts["sha256"] == hashlib.sha256(shipped_file.read_bytes()).hexdigest()
    assert facts["fd"] > 2 * facts["fd_of_truth"] > 0  # of a network that draws noise
    assert facts["mean_difference"] <= facts["largest_difference"] <= 8
    assert Path("page.md").read_text() == page.replace("old\n", "\n" + sources.block(record))
    assert Path("images/source_tiny16.png").exists()

    commands.clear()
    sources.main()
    assert commands == ["predict"]
    assert json.loads(Path("record.json").read_text()) == record


def test_of_an_archive_one_part_is_the_reference_and_another_the_truth(
    sources: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with zipfile.ZipFile(tmp_path / "held_out.zip", "w") as archive:
        for number in (3, 1, 0, 2, 4):
            Image.new("RGBA", (16, 16), (number, 0, 0, 255)).save(tmp_path / "image.png")
            archive.write(tmp_path / "image.png", f"folder/{number:06d}.png")
    (tmp_path / "recipe.yaml").write_text("data: {init_args: {image_size: 16, root: data/all.zip}}")
    monkeypatch.setattr(sources, "SAMPLES", 2)
    source = sources.Source(str(tmp_path / "recipe.yaml"), "", str(tmp_path / "held_out.zip"))
    options, truth = sources.held_out(source, tmp_path / "place")
    assert options[:4] == ["--data", "ImageFolder", "--data.root", "data/all.zip"]
    assert dict(zip(options[::2], options[1::2], strict=True))["--data.image_size"] == "16"
    reds = {
        folder: [Image.open(path).getpixel((0, 0)) for path in sorted(Path(folder).iterdir())]
        for folder in (options[5], truth)
    }
    assert reds == {options[5]: [(0, 0, 0), (1, 0, 0)], truth: [(2, 0, 0), (3, 0, 0)]}


def test_the_share_of_classes_that_are_told(sources: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Of a classifier that says the same class of everything: how often that is the true one."""
    module = tiny.classifier(classifier=tiny.unet_config(out_channels=9))
    last = [layer for layer in module.classifier.modules() if getattr(layer, "bias", None) is not None][-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.eye(9)[4].repeat(last.bias.numel() // 9))
    monkeypatch.setattr(sources, "NoisyClassifier", lambda init_from: module)
    monkeypatch.setattr(sources, "SAMPLES", 60)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: {init_args: {image_size: 16, seed: 3}}")
    told = sources.accuracy(tmp_path / "file", sources.Source(str(recipe), ""))
    labels = SyntheticFaces(image_size=16, labels=True, seed=3).reference(60).read(range(60))["label"]
    assert told == {f"{level:g}": pytest.approx((labels == 4).float().mean().item()) for level in sources.LEVELS}
    assert 0 < told["0.5"] < 1

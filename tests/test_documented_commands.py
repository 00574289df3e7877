"""Every command in README.md and docs/ runs as it stands there, on small files of the names it uses.

Options are appended that make it small and quick. Where it asks for GPUs or a server, it is parsed and merged only.
"""

import glob
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_piti
import tiny_stages
import tiny_upsampler
import torch
import yaml
from debug_size import as_config, debug_size
from PIL import Image
from run_folders import config, evaluation, make_run

from tenshot.callbacks import StepCheckpoint
from tenshot.checkpoints import shipped
from tenshot.checkpoints.kind import plain_fields
from tenshot.cli import HELP, main
from tenshot.cli.adapt import choice
from tenshot.cli.convert import convert_file

TOP = Path(__file__).parents[1]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]
IMAGES = (
    "FOLDER_WITH_TEN_IMAGES",
    "TEN_IMAGES",
    "FOLDER",
    "SAMPLES",
    "SHOTS",
    "ALL_TARGETS",
    "data/ffhq",
    "data/ffhq1024",
)
RUNS = (
    "runs/ddpm/faces32_source",
    "runs/ddpm/faces32_finetune",
    "runs/ddpm_pa/faces32_sunglasses",
    "runs/ddpm_pa/ffhq_babies256",
    "runs/ddpm/faces16_source",
)
COMPARED = ("runs/a", "runs/b", "runs/c", "runs/a/seed1", "runs/b/seed1", "runs/ddpm_pa/seed1", "runs/finetune/seed1")
GANS = ("StyleGAN2", "CDC", "MixDL")
FEW = ["--evaluate.features", "random", "--evaluate.samples", "4", "--evaluate.reference", "4"]
ELSEWHERE = ("configs/trainer/ddp.yaml", "configs/trainer/fsdp.yaml", "configs/trainer/slurm.yaml", "configs/logger/")


def commands(text: str) -> Iterator[str]:
    """Those on lines of their own, indented or fenced, and those in the text that say more than a name."""
    text = re.sub(r" *\\\n\s*", " ", text)
    yield from re.findall(r"^(?: {4,}|)((?:tenshot|sbatch|make|python) .*?)(?: +#.*)?$", text, re.MULTILINE)
    for inline in re.findall(r"`((?:tenshot|make|python) [^`]+)`", text):
        if len(inline.split()) > 2 or not inline.startswith("tenshot"):
            yield " ".join(inline.split())


def documented(program: str) -> list[str]:
    every = [command for page in PAGES for command in commands(page.read_text())]
    every += [line.strip() for line in HELP.splitlines() if line.startswith("  tenshot ")]
    return sorted({command for command in every if command.split()[0] == program})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Path:
    """A folder with what the commands name. Not to be changed: each command runs in a copy."""
    place = tmp_path_factory.mktemp("place")
    os.symlink(TOP / "configs", place / "configs")
    for number, folder in enumerate(IMAGES):
        (place / folder).mkdir(parents=True)
        pixels = torch.randint(256, (10, 32, 32, 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
        for index, image in enumerate(pixels):
            Image.fromarray(image.numpy()).save(place / folder / f"{index}.png")
    for run in RUNS:
        shutil.copytree(trained, place / run)
    for run in COMPARED:
        make_run(place / run, config(), [evaluation(100, 2.0, 0.1)])
    tiny.trainer(place / "RUN", 1, StepCheckpoint()).fit(tiny.gan(), tiny.faces(image_size=32))
    classifier = tiny.classifier(classifier=tiny.unet_config(out_channels=9))
    conditional = tiny.ddpm(unet=tiny.unet_config(num_classes=9, null_class=True, **tiny.SMALL))
    tiny.trainer(place / "RUN_WITH_CLASSES", 1, StepCheckpoint()).fit(conditional, tiny.faces(labels=True))
    written = tiny.config_file(place, {"model": {"init_args": {"unet": {"num_classes": 9, "null_class": True}}}})
    shutil.copy(written, place / "RUN_WITH_CLASSES/config.yaml")
    tiny.trainer(place / "runs/ddpm/faces32_classifier", 1, StepCheckpoint()).fit(classifier, tiny.faces(labels=True))
    shutil.copy(place / "RUN/checkpoints/step=00000001.ckpt", place / "FILE")
    shutil.copy(tiny.config_file(place), place / "RECIPE")
    shutil.make_archive(str(place / "data/avataaars64"), "zip", place / "FOLDER")
    upsampler = tiny_stages.stage(unet=tiny.unet_config(**tiny.SMALL), optimizer=tiny.adam())
    tiny.trainer(place / "runs/super_resolution/faces32", 1, StepCheckpoint()).fit(upsampler, tiny.faces())
    written = tiny.config_file(place, {"model": {"class_path": "SuperResolution", "init_args": {"low_res_size": 8}}})
    shutil.copy(written, place / "runs/super_resolution/faces32/config.yaml")
    shutil.copytree(place / "runs/super_resolution/faces32", place / "runs/super_resolution/faces64")
    pairs = tiny_piti.piti(piti=tiny_piti.TINY, condition_drop=0.2)
    tiny.trainer(place / "runs/piti/faces32_mask", 1, StepCheckpoint()).fit(pairs, tiny_piti.pairs())
    written = tiny_piti.config(place, piti=plain_fields(tiny_piti.TINY), stage=2, condition_drop=0.2)
    shutil.copy(written, place / "runs/piti/faces32_mask/config.yaml")
    shutil.copytree(place / "runs/piti/faces32_mask", place / "runs/piti/pairs64")
    batch = tiny_piti.pairs(condition="mask").train_source.read(range(5))
    for folder, images in (("PHOTOS", batch["image"].permute(0, 2, 3, 1)), ("MASKS", batch["mask"])):
        (place / folder).mkdir()
        for number, pixels in enumerate(images):
            Image.fromarray(pixels.byte().numpy()).save(place / folder / f"{number}.png")
    shutil.copytree(place / "MASKS", place / "NEW_MASKS")
    tiny_piti.public_file(place / "piti_mask.pt", pairs.unet)
    enlarging = tiny_upsampler.upsampler()
    tiny.trainer(place / "runs/piti/faces64_mask", 1, StepCheckpoint()).fit(enlarging, tiny_piti.pairs())
    written = tiny_piti.config(
        place,
        "PITIUpsampler",
        piti=plain_fields(tiny_upsampler.CONFIG),
        low_res_size=8,
        adversary=vars(tiny_upsampler.ADVERSARY),
    )
    shutil.copy(written, place / "runs/piti/faces64_mask/config.yaml")
    segmenter = place / "runs/dense_predictor/faces32_mask"
    tiny.trainer(segmenter, 1, StepCheckpoint()).fit(tiny_piti.predictor(), tiny_piti.pairs())
    (place / "SMALL_IMAGES").mkdir()
    for number in range(5):
        Image.new("RGB", (8, 8)).save(place / "SMALL_IMAGES" / f"{number}.png")
    (place / "package").mkdir()
    for name in ("faces64", "avatars64"):
        tiny.weights_file(place / f"package/{name}.safetensors", tiny.randomised(tiny.ddpm()))
    for name, run in (("faces64_stylegan2", "RUN"), ("faces64_classifier", "runs/ddpm/faces32_classifier")):
        convert_file(str(place / run), str(place / f"package/{name}.safetensors"))
    public = tiny.ddpm(
        unet=tiny.unet_config(image_size=256, channels=64, head_channels=64, attention_resolutions=(128,))
    )
    torch.save(tiny.public_state(public.unet.state_dict()), place / "mine.pt")
    return place


def copied(source: str, target: str) -> None:
    """For ``copytree``: no command writes into a file of weights, so all copies share them."""
    (os.link if source.endswith((".ckpt", ".safetensors", ".pt")) else shutil.copy2)(source, target)


def appended(words: list[str], place: Path) -> list[str]:
    """What makes a command small. It is only parsed where no such runs are here, and of recipes as they are.

    ``test_configs`` trains by these.
    """
    if words[1:3] == ["fit", "--config"] and len(words) == 4:
        return ["--print_config"]
    if {"Cascade", "Paired"} & set(words) or any(word.startswith("configs/cascade/") for word in words):
        return ["--print_config"]
    given = dict(zip(words, [*words[1:], ""], strict=True))
    small = place / given.get("--images.low_res", "SMALL_IMAGES")
    if not small.exists():  # another command would have drawn them
        (place / "SMALL_IMAGES").rename(small)
    if words[1] == "fit" and "--config" in words and not {"--print_config", "--help"} & set(words):
        configs = [after for word, after in pairwise(words) if word == "--config"]
        if any(config.startswith(ELSEWHERE) for config in configs):
            return ["--print_config"]
        recipe = yaml.safe_load((place / configs[0]).read_text())
        start = given.get("--model.init_from")
        if start and not start.startswith(shipped.PREFIX):  # public files are larger; ours are read under any name
            adversarial = recipe["model"]["class_path"] in GANS
            if not (place / start).exists():
                run = place / ("RUN" if adversarial else RUNS[0])
                shutil.copy(max(run.glob("checkpoints/*.ckpt")), place / start)
        words = debug_size(recipe, place / "out")
        if recipe["data"]["class_path"] == "SyntheticFaces" and given.get("--data") == "FewShot":
            words = [
                word for pair in zip(words[::2], words[1::2], strict=True) if "num_val" not in pair[0] for word in pair
            ]
        return as_config(words, place / "small.yaml")
    if words[1] in ("adapt", "cas"):
        return ["--dry_run"]
    if words[1] == "paint":  # it would not end
        return ["--print_config"]
    if words[1] == "test":
        return FEW
    if words[1] == "search":
        return [*FEW, "--search.by", "fd_random", "--search.over.model.sampler.steps", "[2, 3]"]
    few = ["--images.count", "2"] if "--images.conditions" not in words else []
    return [*few, "--model.sampler.steps", "2"] if words[1] == "predict" else []


@pytest.mark.parametrize("command", documented("tenshot"))
def test_a_command_of_tenshot_runs_as_written(
    tenshot: tiny.Run, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
):
    copy = Path(shutil.copytree(place, tmp_path / "place", symlinks=True, copy_function=copied))
    monkeypatch.chdir(copy)
    monkeypatch.setattr(shipped, "FOLDER", copy / "package")
    monkeypatch.setattr(choice, "DRAWN", 2)
    words = [word for part in shlex.split(command) for word in (sorted(glob.glob(part)) if "*" in part else [part])]
    outcome = tenshot(*words[1:], *appended(words, copy))
    assert outcome.status == 0, outcome.err


@pytest.mark.parametrize("command", documented("sbatch"))
def test_the_words_of_a_job_are_those_of_fit(tenshot: tiny.Run, monkeypatch: pytest.MonkeyPatch, command: str):
    monkeypatch.chdir(TOP)
    _, script, *words = shlex.split(command)
    assert Path(script).is_file()
    outcome = tenshot("fit", *words, "--print_config")
    assert outcome.status == 0, outcome.err


@pytest.mark.parametrize("command", documented("make"))
def test_what_is_made_has_a_rule(command: str):
    assert re.search(rf"^{command.split()[1]}:", (TOP / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", documented("python"))
def test_a_script_is_there(command: str):
    script, *words = command.split()[1:]
    assert (TOP / (f"{words[0].replace('.', '/')}.py" if script == "-m" else script)).is_file()


TINY = {"image_size=32": "image_size=16", "max_steps=300": "max_steps=1", "arange(64)": "arange(3)"}


def test_the_python_example_runs(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """On a tiny source model, by changing these numbers alone."""
    [block] = re.findall(r"^```python\n(.*?)^```", (TOP / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    for written, small in TINY.items():
        assert block.count(written) == 1
        block = block.replace(written, small)
    monkeypatch.chdir(Path(shutil.copytree(place, tmp_path / "place", symlinks=True, copy_function=copied)))
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)
    images = names["images"]
    assert images.shape == (3, 3, 16, 16)
    assert images.abs().max() <= 1
    assert len(images.unique(dim=0)) == 3
    start = torch.load(max(place.glob(f"{RUNS[0]}/checkpoints/*.ckpt")), weights_only=True)
    before, after = start["ema"]["weights"]["unet"], names["model"].unet.state_dict()
    assert sum(not torch.equal(after[name], value) for name, value in before.items()) > 10
    assert Image.open("samples.png").width > 16


def test_commands_are_found_in_all_their_forms():
    page = "text `tenshot a --b c`\n\n    tenshot d \\\n        --e\n\n```\ntenshot f g   # h\n```\n`tenshot i`"
    assert list(commands(page)) == ["tenshot d --e", "tenshot f g", "tenshot a --b c"]
    assert len(documented("tenshot")) > 20


def test_the_help_speaks_of_metrics(capsys: pytest.CaptureFixture[str]):
    main(["--help"])
    assert re.search(r"^  test .*FID", capsys.readouterr().out, re.MULTILINE)

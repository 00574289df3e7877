"""``tenshot adapt``: the commands that it prints are those that it runs, a stopped one goes on, nothing is mixed up."""

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from PIL import Image

from tenshot.checkpoints import shipped
from tenshot.cli import adapt as command
from tenshot.cli import main
from tenshot.cli.adapt import choice
from tenshot.lightning_modules import DDPM

SMALL = {
    "fit": ["--evaluate.fit_samples", "2", "--grid.count", "2", "--evaluate.features", "random"],
    "predict": [],
    "test": ["--evaluate.samples", "2"],
}
SMALL["fit"] += ["--model.sampler.steps", "2", "--model.preview_sampler.steps", "2"]
SMALL["fit"] += ["--evaluate.keep_best", "nearness_gap_random"]
DRAWS = choice.samples_of
BARE = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In place of the package's own, one."""
    folder = tmp_path_factory.mktemp("package")
    tiny.weights_file(folder / "faces16.safetensors", tiny.randomised(tiny.ddpm(unet=tiny.unet_config(**tiny.SMALL))))
    return folder


@pytest.fixture
def place(tmp_path: Path, sources: Path, shots: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with images; sources come with the package, and are not drawn from to be chosen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped, "FOLDER", sources)
    monkeypatch.setattr(choice, "DRAWN", 2)
    monkeypatch.setattr(choice, "samples_of", lambda source: torch.zeros(2, 3, source.size, source.size))
    monkeypatch.setattr(choice, "nearness", lambda *rows: 0.1)
    shutil.copytree(shots, "mine")
    return tmp_path


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were run, here in this process and at a size that takes no time."""
    every: list[list[str]] = []

    def run(words: Sequence[str]) -> None:
        every.append(list(words))
        main([*words, *([*SMALL[words[0]], *BARE] if words[0] in SMALL else [])])

    monkeypatch.setattr(command, "run", run)
    return every


def printed(out: str) -> list[list[str]]:
    return [shlex.split(line)[2:] for line in out.splitlines() if line.startswith("$ tenshot ")]


def saved_steps(folder: Path) -> set[str]:
    return {path.name for path in (folder / "checkpoints").glob("*.ckpt")}


def test_the_whole_way(tenshot: tiny.Run, place: Path, ran: list[list[str]]):
    words = ["adapt", "mine", "--steps", "2", "--samples", "3"]
    plan = tenshot(*words, "--dry_run")
    assert plan.status == 0, plan.err
    assert ran == []
    assert not Path("runs").exists()
    outcome = tenshot(*words)
    assert outcome.status == 0, outcome.err
    assert ran == printed(outcome.out) == printed(plan.out)
    assert [each[0] for each in ran] == ["fit", "predict", "test", "compare"]

    run = Path("runs/adapt/mine-finetune")
    told = {line.split()[0]: line for line in outcome.out.splitlines() if line.startswith("  ")}
    assert "tenshot:faces16, 16 px" in told["source"]
    best = int(torch.load(run / "checkpoints/best.ckpt", weights_only=True)["global_step"])
    assert f"step {best} of 2" in told["best"]
    assert (run / f"samples/step={best:08d}.png").is_file()
    assert f"{run}/samples/step={best:08d}.png" in told["grid"]
    assert sorted(path.name for path in (run / "images").glob("*.png")) == [f"00000{n}.png" for n in range(3)]
    assert json.loads((run / "images/drawn_by.json").read_text())["step"] == best
    assert (run / "comparison/index.html").is_file()
    values = [
        json.loads(path.read_text())["values"] for path in sorted((run / "evaluations").glob("step=0000000[12].json"))
    ]
    assert len(values) == 2
    gaps = [each["nearness_gap_random"] for each in values]
    assert best == max(step for step, gap in enumerate(gaps, start=1) if gap == min(gaps))

    ran.clear()
    again = tenshot(*words[:-1], "4")  # what is trained and measured is not done again
    assert again.status == 0, again.err
    assert [each[0] for each in ran] == ["predict"]
    assert len(list((run / "images").glob("*.png"))) == 4
    assert again.out.count("# done") == 3

    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    Image.new("RGB", (16, 16), "red").save("mine/0.png")  # other images of the same names
    other = tenshot(*words, "--dry_run")
    assert "--trainer.default_root_dir runs/adapt/mine-finetune-2" in other.out
    assert tenshot(*words, "--dry_run", "--output", run).complaint == (
        f"--output {run} holds something else, which is not written over: name another folder"
    )
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_run_that_was_stopped_goes_on(
    tenshot: tiny.Run, place: Path, ran: list[list[str]], monkeypatch: pytest.MonkeyPatch
):
    """Ctrl-C after a step of three."""
    steps: list[int] = []
    train, run = DDPM.training_step, command.run

    def counted(self: DDPM, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        steps.append(self.global_step)
        return train(self, batch, batch_idx)

    def stopped(words: list[str]) -> None:
        run([*words, "--trainer.max_steps", "1"])
        raise SystemExit(130)

    monkeypatch.setattr(DDPM, "training_step", counted)
    words = ["adapt", "mine", "--steps", "3", "--samples", "1", "--output", "out"]
    for end, status in ((stopped, 130), (lambda words: run(words) if words[0] == "fit" else sys.exit(7), 7)):
        with monkeypatch.context() as patch:
            patch.setattr(command, "run", end)
            assert tenshot(*words).status == status
        assert steps == [0] or end is not stopped
    assert tenshot(*words).status == 0
    assert steps == [0, 1, 2]
    assert [each[0] for each in ran] == ["fit", "fit", "predict", "test", "compare"]


def test_folders_are_of_one_set_of_images_method_and_length(place: Path, tenshot: tiny.Run, sources: Path):
    """Nobody's folder is taken, and what is not ours is left alone."""
    Path("runs/adapt/mine-finetune").mkdir(parents=True)
    Path("runs/adapt/mine-finetune/notes.txt").touch()
    of = {"steps": 1}
    first = command.folder_for(None, "mine-finetune", of)
    assert first.path == Path("runs/adapt/mine-finetune-2")
    first.claim()
    first.note(["fit"])
    first.claim()  # the same again
    assert command.folder_for(None, "mine-finetune", of).path == first.path
    assert command.folder_for(None, "mine-finetune", of).done == [["fit"]]
    other = command.folder_for(None, "mine-finetune", {"steps": 2})
    assert other.path == Path("runs/adapt/mine-finetune-3")
    late = command.folder_for("elsewhere", "", {"steps": 2})
    command.folder_for("elsewhere", "", of).claim()
    tiny.refusal(late.claim, "another tenshot adapt has just begun there")
    assert sorted(path.name for path in Path("elsewhere").iterdir()) == ["adapt.json"]
    Path("file").touch()
    tiny.refusal(lambda: command.folder_for("file", "", of), "--output file holds something else")
    tiny.refusal(command.folder_for("file/in", "", of).claim, "file/in: cannot be written (Not a directory)")

    plans = {
        tenshot("adapt", "mine", "--dry_run", *words).out.split("--trainer.max_steps")[1].split("--grid")[0]
        for words in ([], ["--steps", "7"])
    }
    assert len(plans) == 2


def source_file(folder: Path, kind: str, size: int) -> Path:
    path = folder / f"{kind}{size}.safetensors"
    if kind == "unet":
        return tiny.weights_file(path, tiny.ddpm(unet=tiny.unet_config(image_size=size)))
    from dataclasses import replace

    gan = tiny.gan(stylegan2=replace(tiny.STYLEGAN2, image_size=size))
    run = folder / f"{kind}{size}"
    tiny.trainer(run, 1, tiny.StepCheckpoint()).fit(gan, tiny.faces(image_size=size, batch_size=4))
    return run


@pytest.mark.parametrize(
    ("kind", "size", "method", "recipe"),
    [
        ("unet", 64, None, "ddpm/few_shot64.yaml"),
        ("unet", 32, "ddpm_pa", "ddpm_pa/few_shot64.yaml"),
        ("unet", 256, None, "ddpm/finetune256.yaml"),
        ("unet", 256, "ddpm_pa", "ddpm_pa/ffhq_babies256.yaml"),
        ("stylegan2", 32, None, "stylegan2/few_shot64.yaml"),
        ("stylegan2", 64, "cdc", "cdc/few_shot64.yaml"),
    ],
)
def test_source_and_method_choose_the_recipe_which_is_run_for_these_images(
    tenshot: tiny.Run, place: Path, kind: str, size: int, method: str | None, recipe: str
):
    for number in range(2):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(f"mine/{number}.png")
    for number in range(2, 5):
        Path(f"mine/{number}.png").unlink()
    source = source_file(place, kind, size)
    words = ["--source", source, *(["--method", method] if method else [])]
    outcome = tenshot("adapt", "mine", "--dry_run", "--patience", "2", "--seed", "5", *words)
    assert outcome.status == 0, outcome.err
    assert f"recipe   {recipe}" in outcome.out
    assert ("whose numbers are for" in outcome.out) == (size not in (64, 256))
    fit = printed(outcome.out)[0]
    shown = tenshot(*fit, "--print_config", "--trainer.accelerator", "cpu")
    assert shown.status == 0, shown.err
    merged = yaml.safe_load(shown.out)
    data, evaluate = merged["data"]["init_args"], merged["evaluate"]
    assert data["root"] == "mine"
    assert data.get("shots") is None  # all there are
    assert data["image_size"] in (size, None)
    assert data["seed"] == merged["seed_everything"] == 5
    assert merged["model"]["init_args"]["init_from"] == str(source)
    assert (merged["model"]["init_args"].get("sampler") or {"method": "dpm_solver"})["method"] == "dpm_solver"
    assert evaluate["lpips_resize"] is None
    assert evaluate["patience"] == 2
    assert merged["trainer"]["devices"] == "1"  # whatever the machine has
    steps, every = merged["trainer"]["max_steps"], evaluate["every_n_steps"]
    assert every == merged["grid"]["every_n_steps"] == round(steps / 10)


def test_a_gpu_is_asked_for_before_anything_is_trained(tenshot: tiny.Run, place: Path, ran: list[list[str]]):
    source = source_file(place, "unet", 256)
    for path in Path("mine").iterdir():
        Image.new("RGB", (64, 64)).save(path)
    if not torch.cuda.is_available():
        complaint = tenshot("adapt", "mine", "--source", source).complaint
        assert "makes images of 256 px, which takes days without a GPU" in complaint
        assert ran == []
        assert not Path("runs").exists()


BAD: dict[str, tuple[list[str], int, str]] = {
    "source of another kind": (
        ["--source", "GAN", "--method", "ddpm_pa"],
        1,
        "choose --method tgan or cdc, or another",
    ),
    "a classifier": (["--source", "CLASSIFIER"], 1, "a classifier of noisy images, which no method here adapts"),
    "nothing of that kind": (["--method", "cdc"], 1, "no StyleGAN2 comes with this version of tenshot"),
    "no steps": (["--steps", "0"], 1, "--steps is 0: choose at least 1"),
    "method": (["--method", "ddpmpa"], 2, "invalid choice: 'ddpmpa'"),
    "option": (["--step", "3"], 2, "unrecognized arguments: --step 3: see tenshot adapt --help"),
    "no folder": (["--source", "gone"], 1, "gone: no such checkpoint file or run folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_are_one_line_and_nothing_is_done(tenshot: tiny.Run, place: Path, ran: list[list[str]], case: str):
    words, status, message = BAD[case]
    if "CLASSIFIER" in words:
        tiny.trainer(place / "CLASSIFIER", 1, tiny.StepCheckpoint()).fit(tiny.classifier(), tiny.faces(labels=True))
    if "GAN" in words:
        source_file(place, "stylegan2", 32).rename("GAN")
    tiny.assert_one_line(tenshot("adapt", "mine", *words), status, message)
    assert ran == []
    assert not Path("runs").exists()


def test_of_several_sources_the_one_is_taken_whose_samples_are_most_like_the_images(
    tenshot: tiny.Run, place: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(choice, "samples_of", DRAWS)
    shipped.FOLDER = place / "package"
    shipped.FOLDER.mkdir()
    for seed, name in enumerate(("a", "b")):
        tiny.weights_file(shipped.FOLDER / f"{name}.safetensors", tiny.randomised(tiny.ddpm(), seed))
        drawn = f"--images.count 2 --images.seed 9 --images.dir {name} --model.sampler.method dpm_solver"
        main(["predict", "--ckpt_path", f"tenshot:{name}", *drawn.split(), "--model.sampler.steps", "20", *BARE])
    for name in ("a", "b"):
        outcome = tenshot("adapt", name, "--dry_run")
        assert outcome.status == 0, outcome.err
        assert f"  source   tenshot:{name}, 16 px: its samples are most like the images" in outcome.out
        assert f"--model.init_from tenshot:{name} " in outcome.out


@pytest.mark.parametrize("start", [0.1, 0.8])
def test_the_last_step_is_taken_where_nearness_tells_nothing(
    tenshot: tiny.Run, place: Path, monkeypatch: pytest.MonkeyPatch, start: float
):
    threads, told = [], start == 0.1
    monkeypatch.setattr(choice, "nearness", lambda *rows: threads.append(torch.get_num_threads()) or start)
    torch.set_num_threads(2)
    outcome = tenshot("adapt", "mine", "--dry_run", "--output", "out", "--patience", "3")
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert threads == [1]  # else another number of them might choose otherwise
    fit, *others, _ = (" ".join(words) for words in printed(outcome.out))
    for option in ("--evaluate.keep_best", "--evaluate.patience", "[nearness,"):
        assert (option in fit) == told
    assert all(("--ckpt_path out/checkpoints/best.ckpt " in words) == told for words in others)
    assert all("--ckpt_path out" in words for words in others)
    assert ("(nearness 0.80)" in outcome.out) != told

"""Two gloo processes with sharded weights (FSDP2): the loss curve, the weights and the images of one process."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sharded_ranks
import tiny
import torch
from ranks import run_ranks
from safetensors.torch import load_file
from sharded_ranks import CHANGES, OTHERS, SHARDED, VARIANTS, train
from torch import Tensor

from tenshot.checkpoints.runs import checkpoint_path, newest_checkpoint
from tenshot.cli import main
from tenshot.lightning_modules import DDPM
from tenshot.models.pretrained import is_whole, read_checkpoint
from tenshot.models.pretrained.sharded import SHARD

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ONE = ["--trainer.devices", "1", "--trainer.strategy", "auto"]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the two processes left, of which one was killed in the end, while it saved."""
    folder = tmp_path_factory.mktemp("ranks")
    config = tiny.config_file(folder, CHANGES, SHARDED)
    with pytest.raises(AssertionError) as ended:
        run_ranks(sharded_ranks.__file__, folder, config, timeout=500)
    assert (folder / "the end").exists(), str(ended.value)
    return folder


@pytest.fixture(scope="module")
def alone(ranks: Path) -> dict[str, dict[str, Any]]:
    """One process with the joint batch."""
    folder = ranks / "alone"
    folder.mkdir()
    return {name: train(folder, 4, how) for name, how in VARIANTS.items()}


def checkpoint(run: Path, step: int) -> dict[str, Any]:
    return dict(read_checkpoint(checkpoint_path(run, step)))


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor], **tolerance: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, **tolerance, msg=lambda text, name=name: f"{name}: {text}")


TOLERANCES = {"long": 2e-5, "accumulated": 2e-6, "half": 0.01}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_loss_curve_is_that_of_one_process(ranks: Path, alone: dict[str, dict[str, Any]], variant: str):
    both = [torch.load(ranks / f"{variant}{rank}.pt") for rank in range(2)]
    losses = (torch.tensor(both[0]["losses"]) + torch.tensor(both[1]["losses"])) / 2
    expected, relative = alone[variant], TOLERANCES[variant]

    torch.testing.assert_close(losses, torch.tensor(expected["losses"]), rtol=relative, atol=0)
    for rank in both:
        assert rank["val_losses"] == pytest.approx(expected["val_losses"], rel=relative)
        assert rank["alike"] == pytest.approx(expected["alike"], abs=relative)
    if variant == "long":
        assert len(losses) == 8
        assert losses[-4:].mean() < 0.95 * losses[:4].mean()


@pytest.mark.parametrize("variant", ["long", "accumulated"])
def test_weights_average_and_images_are_those_of_one_process(
    ranks: Path, alone: dict[str, dict[str, Any]], variant: str
):
    first, second = (torch.load(ranks / f"{variant}{rank}.pt") for rank in range(2))
    assert all(first["shared"])
    assert not any(alone[variant]["shared"])
    for part in ("weights", "average"):
        tiny.assert_same(second[part], first[part])
        assert_close(first[part], alone[variant][part], rtol=1e-3, atol=2e-5)
    apart = np.abs(np.array(first["grid"]) - np.array(alone[variant]["grid"]))
    assert apart.max() <= 1  # of 255


def test_half_precision_gathers_blocks_in_it_and_keeps_the_weights(ranks: Path):
    half = torch.load(ranks / "half0.pt")
    assert {value.dtype for part in ("weights", "average") for value in half[part].values()} == {torch.float32}
    low = {name for name, kind in half["kinds"].items() if kind == torch.bfloat16}
    stages = {name for name in half["kinds"] if name.startswith(("encoder.stages", "encoder.middle", "decoder"))}
    assert low == {name for name in stages if ".embed." not in name}


@pytest.mark.parametrize("method", OTHERS)
def test_other_methods_train_as_under_ddp(ranks: Path, method: str):
    for rank in range(2):
        ddp, shared = torch.load(ranks / f"{method}{rank}.pt")
        assert len(ddp) == 2
        assert shared == pytest.approx(ddp, rel=1e-5)


def test_what_one_rank_meets_all_raise(ranks: Path):
    full, spoiled = torch.load(ranks / "complaints0.pt")
    assert torch.load(ranks / "complaints1.pt") == [full, spoiled]
    assert full.startswith(f"{checkpoint_path(ranks / 'full', 1)}: could not be written (No space left on device)")
    assert spoiled.startswith("the weights became NaN or infinite at step 1, before the first checkpoint: ")
    for run in ("full", "spoiled"):
        assert not any((ranks / run).glob("checkpoints/*"))


def test_each_rank_writes_its_rows(ranks: Path):
    folder = checkpoint_path(ranks / "run", 4)
    assert [path.name for path in sorted(folder.iterdir())] == ["part=00000-of-00002.ckpt", "part=00001-of-00002.ckpt"]
    parts = [torch.load(path, weights_only=True) for path in sorted(folder.iterdir())]
    for part in parts:
        assert part["state_dict"]["unet.encoder.stem.weight"][SHARD].shape == (16, 3, 3, 3)
        assert part["optimizer_states"][0]["state"][0]["exp_avg"][SHARD].shape == (64, 32)
        assert part["ema"]["weights"]["unet"]["encoder.stem.weight"][SHARD].shape == (16, 3, 3, 3)
    assert parts[0]["state_dict"]["unet.conv.weight"][SHARD].shape == (3, 32, 3, 3)


def test_resuming_changes_nothing(ranks: Path):
    whole, resumed = (checkpoint(ranks / run, 4) for run in ("run", "resumed"))
    for part in ("state_dict", "optimizer_states", "ema", "timesteps", "global_step"):
        tiny.assert_same(resumed[part], whole[part], part)
    assert whole["optimizer_states"][0]["state"][0]["exp_avg"].abs().max() > 0


def test_a_run_killed_while_it_saved_goes_on_from_the_checkpoint_before(ranks: Path):
    run = ranks / "killed"
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        ".step=00000004.ckpt.partial",
        "step=00000002.ckpt",
    ]
    assert newest_checkpoint(run) == checkpoint_path(run, 2)
    config = [str(path) for path in ranks.glob("config*.yaml")]
    words = ["--data.batch_size", "4", "--trainer.default_root_dir", str(run), "--ckpt_path", "last"]
    main(["fit", "--config", *config, *ONE, *words])  # one process reads what two wrote

    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "abandoned-after-step=00000002",  # rows of the log that a run configured otherwise does not do again
        "step=00000002.ckpt",
        "step=00000004.ckpt",
    ]
    ours, theirs = checkpoint(run, 4), checkpoint(ranks / "run", 2)
    moments = [content["optimizer_states"][0]["state"][0] for content in (ours, theirs)]
    assert [int(moment["step"]) for moment in moments] == [4, 2]
    moved = (ours["state_dict"]["unet.conv.weight"] - theirs["state_dict"]["unet.conv.weight"]).abs().max()
    assert 1e-4 < moved < 0.1


def test_what_ddp_saved_goes_on_sharded(ranks: Path):
    shared, ddp = (checkpoint(ranks / run, 4) for run in ("run", "from_ddp"))
    assert_close(ddp["state_dict"], shared["state_dict"], rtol=1e-3, atol=2e-5)
    assert_close(ddp["ema"]["weights"]["unet"], shared["ema"]["weights"]["unet"], rtol=1e-3, atol=2e-5)
    states = [content["optimizer_states"][0]["state"] for content in (ddp, shared)]
    assert_close(*({n: state["exp_avg"] for n, state in each.items()} for each in states), rtol=1e-2, atol=2e-5)


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_convert_makes_one_file(ranks: Path, tmp_path: Path, weights: str):
    def converted(source: Path) -> dict[str, Tensor]:
        target = tmp_path / f"{source.name}.safetensors"
        main(["convert", str(source), str(target), "--weights", weights])
        return load_file(target)

    ours = converted(ranks / "run")
    module = DDPM(init_from=str(ranks / "run"), init_weights=weights)  # type: ignore[arg-type]
    module.configure_model()
    tiny.assert_same(dict(module.unet.state_dict()), ours)
    two_steps = converted(checkpoint_path(ranks / "run", 2))
    assert_close(two_steps, converted(ranks / "ddp"), rtol=1e-3, atol=1e-5)
    assert (ours["conv.weight"] - two_steps["conv.weight"]).abs().max() > 1e-4


def test_predict_draws_what_one_process_draws(ranks: Path, tmp_path: Path):
    words = ["predict", "--ckpt_path", str(ranks / "run"), "--images.count", "7", "--images.dir", str(tmp_path)]
    main([*words, *ONE])
    ours, theirs = (
        {path.name: path.read_bytes() for path in folder.glob("*.png")}
        for folder in (ranks / "run" / "images", tmp_path)
    )
    assert ours == theirs
    assert len(set(theirs.values())) == 7


def test_a_part_that_is_missing_or_torn_is_no_checkpoint(ranks: Path, tmp_path: Path, tenshot: tiny.Run):
    run = Path(shutil.copytree(ranks / "run", tmp_path / "run"))
    newest = checkpoint_path(run, 4)
    assert is_whole(newest)
    part = newest / "part=00001-of-00002.ckpt"
    part.write_bytes(part.read_bytes()[:-1000])
    assert newest_checkpoint(run) == checkpoint_path(run, 2)
    part.unlink()
    assert newest_checkpoint(run) == checkpoint_path(run, 2)
    complaint = tenshot("convert", newest, tmp_path / "a.safetensors").complaint
    assert complaint.startswith(f"{newest}: some of its parts are missing: copy the whole folder")

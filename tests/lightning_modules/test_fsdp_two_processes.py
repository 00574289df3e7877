"""Two gloo processes with weights shared out (FSDP2): the loss curve, the weights and the pictures of one process.

Run by torchrun, this file is the script of one rank.
"""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from by_picture import ByPicture, NumberedFaces
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from tenshot.callbacks import EMA, FullySharded, SampleGrid, StepCheckpoint, fully_sharded
from tenshot.cli import main
from tenshot.errors import InputError
from tenshot.lightning_modules import DDPM, NoisyClassifier, Pairwise
from tenshot.lightning_modules.runs import checkpoint_path, newest_checkpoint
from tenshot.lightning_modules.sharding import gathered
from tenshot.models.pretrained import is_whole, read_checkpoint
from tenshot.models.pretrained.sharded import SHARD

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PAIRWISE = Pairwise(image=3, high_frequency=2, high_frequency_mse=1e-4, pairs="all")
SMALL: dict[str, Any] = {"channel_mult": (1,), "attention_resolutions": ()}
VARIANTS: dict[str, dict[str, Any]] = {  # of training: how
    "long": {"steps": 50, "val_check_interval": 25, "gradient_clip_val": 0.4, "lr": 0.1, "unet": SMALL},
    "accumulated": {
        "steps": 2,
        "accumulate_grad_batches": 2,
        "unet": {"checkpoint_blocks": True},
        "gradient_clip_val": 0.01,
        "gradient_clip_algorithm": "value",
        "lr": 0.1,
    },
    "half": {"steps": 2, "precision": "bf16-mixed", "lr": 0.1, "unet": SMALL | {"checkpoint_blocks": True}},
}
SHARDED: dict[str, Any] = {"trainer": {"devices": 2, "strategy": {"class_path": "tenshot.callbacks.FullySharded"}}}
CHANGES: dict[str, Any] = {
    "model": {
        "init_args": {
            "unet": {"dropout": 0.2},
            "diffusion": {"num_steps": 50},
            "objective": "vlb",
            "timesteps": "loss_aware",
            "preview_sampler": {"method": "ddim", "steps": "ddim2"},
            # with a small eps Adam would make steps of what is rounding: gradients of biases before a norm
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01, "eps": 0.001}},
        }
    },
    "data": {"init_args": {"num_val": 5, "batch_size": 2}},
    "trainer": {"max_steps": 4, "val_check_interval": 2, "check_val_every_n_epoch": None, "log_every_n_steps": 1},
    "checkpoint": {"every_n_steps": 2, "keep": 9},
    "grid": {"every_n_steps": 4, "count": 3, "columns": 3},
}
ONE = ["--trainer.devices", "1", "--trainer.strategy", "auto"]


class Follow(Callback):
    """The loss of every micro-batch and the means of validation."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.val_losses: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *rest: Any) -> None:
        self.losses.append(float(outputs["loss"]))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.val_losses.append(trainer.callback_metrics["val/loss"].item())


def train(folder: Path, batch_size: int, how: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    """Adapt by DDPM-PA, and tell what came of it."""
    how = {"val_check_interval": 2, "check_val_every_n_epoch": None} | how | arguments
    rate, unet = how.pop("lr"), tiny.unet_config(**how.pop("unet"))
    source = folder / f"source{os.environ.get('RANK', 0)}.safetensors"
    tiny.weights_file(source, tiny.randomised(tiny.ddpm(unet=unet), 1))
    module = ByPicture(
        PAIRWISE,
        init_from=str(source),
        unet=unet,
        optimizer=lambda params: torch.optim.SGD(params, lr=rate, momentum=0.5),
        preview_sampler=tiny.QUICK,
        collapse_every_n_steps=how["val_check_interval"],
    )
    follow, ema, steps = Follow(), EMA(0.9), how.pop("steps")
    grid = SampleGrid(every_n_steps=steps, count=3, columns=3)
    trainer = tiny.trainer(folder, steps, follow, grid, ema=ema, **how)
    trainer.fit(module, NumberedFaces(batch_size))
    assert module.source is not None
    with gathered(module.unet):
        kinds = {name: weight.dtype for name, weight in module.unet.named_parameters()}
    return {
        "losses": follow.losses,
        "val_losses": follow.val_losses,
        "alike": trainer.callback_metrics["collapse/adapted"].item(),
        "grid": np.asarray(Image.open(folder / "samples" / f"step={steps:08d}.png")).tolist(),
        "weights": {name: whole(value) for name, value in module.unet.state_dict().items()},
        "average": {name: whole(value) for name, value in ema.average["unet"].items()},
        "kinds": kinds,
        "shared": [isinstance(weight, DTensor) for weight in module.unet.parameters()]
        + [isinstance(weight, DTensor) for weight in module.source.network.parameters()],
    }


def whole(value: Tensor) -> Tensor:
    return (value.full_tensor() if isinstance(value, DTensor) else value).detach().clone()


def classify(folder: Path, strategy: Any) -> list[float]:
    """Train a classifier of noisy pictures."""
    module = NoisyClassifier(tiny.unet_config(out_channels=9), tiny.process(), optimizer=tiny.adam(1e-3))
    follow = Follow()
    torch.manual_seed(0)
    trainer = tiny.trainer(folder, 4, follow, devices=2, strategy=strategy)
    trainer.fit(module, tiny.faces(labels=True, batch_size=2))
    return follow.losses


def complaints(folder: Path, rank: int) -> list[str]:
    """What comes of a disk that is full, and of weights that are no numbers, on the second rank alone."""
    said = []
    on_the_disk = fully_sharded.written

    def full(content: Any, path: Path) -> None:
        on_the_disk(content, path)
        if rank == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Spoil(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
            weight: DTensor = pl_module.unet.conv.weight  # type: ignore[union-attr,assignment]
            with torch.no_grad():
                weight.to_local().fill_(torch.nan if rank == 1 else 0)

    for name, spoiled in (("full", False), ("spoiled", True)):
        fully_sharded.written = on_the_disk if spoiled else full  # type: ignore[attr-defined]
        callbacks = [*([Spoil()] if spoiled else []), StepCheckpoint()]
        trainer = tiny.trainer(folder / name, 1, *callbacks, devices=2, strategy=FullySharded())
        try:
            trainer.fit(DDPM(tiny.unet_config(), preview_sampler=tiny.QUICK), tiny.faces())
        except InputError as error:
            said.append(str(error))
    fully_sharded.written = on_the_disk  # type: ignore[attr-defined]
    return said


def one_rank(folder: Path, config: str) -> None:
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    for name, how in VARIANTS.items():
        torch.save(train(folder, 2, how, devices=2, strategy=FullySharded()), folder / f"{name}{rank}.pt")
    losses = [classify(folder, strategy) for strategy in ("ddp", FullySharded())]
    torch.save(losses, folder / f"classifier{rank}.pt")
    torch.save(complaints(folder, rank), folder / f"complaints{rank}.pt")

    run, resumed, killed, ddp = (str(folder / name) for name in ("run", "resumed", "killed", "ddp"))
    fit = ["fit", "--config", config, "--trainer.default_root_dir"]
    main([*fit, run])
    if rank == 0:
        shutil.copytree(run, resumed)
        shutil.rmtree(checkpoint_path(Path(resumed), 4))
        shutil.copytree(resumed, killed)
    torch.distributed.barrier()
    main([*fit, resumed, "--ckpt_path", "last"])
    main(["predict", "--ckpt_path", run, "--images.count", "7", "--images.batch_size", "3"])
    main([*fit, ddp, "--trainer.strategy", "ddp", "--trainer.max_steps", "2"])
    main([*fit, str(folder / "from_ddp"), "--ckpt_path", ddp])

    on_the_disk = fully_sharded.written

    def half(content: Any, path: Path) -> None:
        on_the_disk(content, path)
        if rank == 1:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            (folder / "the end").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    fully_sharded.written = half  # type: ignore[attr-defined]
    main([*fit, killed, "--ckpt_path", "last"])


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the two processes left, of which one was killed in the end, while it saved."""
    folder = tmp_path_factory.mktemp("ranks")
    config = tiny.config_file(folder, CHANGES, SHARDED)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__, str(folder), config]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], env=environment, timeout=500, capture_output=True, text=True)
    assert (folder / "the end").exists(), done.stderr[-3000:]
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
        assert len(losses) == 50
        assert losses[-10:].mean() < 0.95 * losses[:10].mean()


@pytest.mark.parametrize("variant", ["long", "accumulated"])
def test_weights_average_and_pictures_are_those_of_one_process(
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


def test_a_classifier_trains_as_under_ddp(ranks: Path):
    for rank in range(2):
        ddp, shared = torch.load(ranks / f"classifier{rank}.pt")
        assert len(ddp) == 4
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


def test_what_ddp_saved_goes_on_shared_out(ranks: Path):
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


if __name__ == "__main__":
    one_rank(Path(sys.argv[1]), sys.argv[2])

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from lightning.pytorch import Trainer
from torch.optim.lr_scheduler import OneCycleLR

from tenshot.callbacks import EMA, SampleGrid, StepCheckpoint
from tenshot.datamodules import ImageDataModule
from tenshot.datamodules.batches import Batch, Source
from tenshot.diffusion import DiffusionConfig
from tenshot.distributed.seeding import position_seed
from tenshot.errors import InputError
from tenshot.lightning_modules import DDPM, NoisyClassifier
from tenshot.models import UNetClassifier, UNetConfig
from tenshot.models.pretrained.adm_zoo import Classifier

COSINE = DiffusionConfig(num_steps=60, schedule="cosine")


def faces(**arguments: Any) -> Any:
    return tiny.faces(**({"labels": True} | arguments))


def fit(folder: Path, module: NoisyClassifier, steps: int = 1, data: Any = None, **arguments: Any) -> Trainer:
    trainer = tiny.trainer(folder, steps, **arguments)
    trainer.fit(module, data or faces())
    return trainer


def logged(trainer: Trainer, prefix: str = "train/") -> dict[str, float]:
    return {k.removeprefix(prefix): v.item() for k, v in trainer.callback_metrics.items() if k.startswith(prefix)}


def by_hand(network: UNetClassifier, batch: Batch, seed: Sequence[int]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Timesteps of a batch, and each image's cross entropy and hits in float64, at what StepSeed makes it draw."""
    x, labels = batch["image"] / 127.5 - 1, batch["label"].numpy()
    torch.manual_seed(position_seed(seed))
    t = torch.randint(1000, (len(x),))
    noise = torch.randn_like(x)
    alpha_bar = torch.from_numpy(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))[t].float().view(-1, 1, 1, 1)
    with torch.no_grad():
        logits = network(alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise, t).double().numpy()
    rows = np.arange(len(x))
    order = np.argsort(-logits, axis=1)
    return t.numpy(), {
        "loss": np.log(np.exp(logits).sum(1)) - logits[rows, labels],
        "accuracy@1": order[:, 0] == labels,
        "accuracy@5": (order[:, :5] == labels[:, None]).any(1),
    }


# Training and validation


def test_the_logged_values_are_those_of_the_formula_also_by_timestep_bin(tmp_path: Path):
    module, data = tiny.randomised(tiny.classifier(optimizer=tiny.adam(0.0))), faces(batch_size=12, flip=False)
    first = next(iter(data.train_dataloader()))
    values = logged(fit(tmp_path, module, data=data, log_every_n_steps=1))
    t, expected = by_hand(module.classifier.eval(), first, [3, 0, 0, 0, 0])

    assert 0 < expected["accuracy@5"].mean() < 1
    for name, each in expected.items():
        assert values.pop(name) == pytest.approx(each.mean(), rel=1e-4), name
        for k in np.unique(t // 250):
            assert values.pop(f"{name}_q{k}") == pytest.approx(each[t // 250 == k].mean(), rel=1e-4)
    assert not values


def test_validation_values_are_means_over_all_images_at_fixed_noise_by_averaged_weights(tmp_path: Path):
    module, ema = tiny.randomised(tiny.classifier(optimizer=tiny.adam(1e-3))), EMA(0.9)
    data = faces(num_val=5, batch_size=3)
    often = {"val_check_interval": 1, "check_val_every_n_epoch": None}
    values = logged(fit(tmp_path, module, 2, data=data, ema=ema, **often), "val/")

    network = UNetClassifier(module.classifier.config).eval()
    network.load_state_dict(ema.average["classifier"])
    parts = [
        by_hand(network, data.val_source.read(indices), [3, 1, 0, 0, number])[1]
        for number, indices in enumerate((range(3), range(3, 5)))
    ]
    for name in ("loss", "accuracy@1", "accuracy@5"):
        assert values[name] == pytest.approx(np.concatenate([part[name] for part in parts]).mean(), rel=1e-4), name


def test_fit_moves_every_weight_of_the_classifier(tmp_path: Path):
    module = tiny.randomised(tiny.classifier())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    fit(tmp_path, module)

    after = module.state_dict()
    assert all(name.startswith("classifier.") for name in after)
    assert {name for name in after if not torch.equal(before[name], after[name])} == set(after)


def test_logits_that_are_all_alike_are_right_about_nothing():
    module = tiny.classifier()
    module.classifier.forward = lambda x, t: torch.zeros(len(x), 9)  # type: ignore[method-assign]
    scores = module.scores(
        {"image": torch.zeros(9, 3, 16, 16), "condition": {"label": torch.arange(9)}}, torch.arange(9)
    )
    assert scores["accuracy@1"].sum() == scores["accuracy@5"].sum() == 0
    assert scores["loss"].tolist() == pytest.approx([np.log(9)] * 9)


@dataclass
class Colours:
    """Plain images, of which the label is the channel that is on."""

    def __len__(self) -> int:
        return 3

    def read(self, indices: Sequence[int]) -> Batch:
        images = torch.zeros(len(indices), 3, 8, 8, dtype=torch.uint8)
        for row, index in enumerate(indices):
            images[row, index] = 255
        return {"image": images, "label": torch.tensor(list(indices))}


class PlainImages(ImageDataModule):
    num_classes = 3  # type: ignore[assignment]

    def sources(self) -> tuple[Source, Source | None]:
        return Colours(), Colours()


def test_what_is_easy_to_tell_apart_is_learnt_where_noise_leaves_it_visible(tmp_path: Path):
    network = UNetConfig(
        image_size=8, channels=64, channel_mult=(1,), num_res_blocks=1, attention_resolutions=(), out_channels=3
    )
    torch.manual_seed(0)
    module = tiny.classifier(classifier=network, optimizer=tiny.adam(3e-3))
    data = PlainImages(24, 8, 0, flip=True, num_workers=0)
    values = logged(fit(tmp_path, module, 20, data=data, log_every_n_steps=10))

    assert values["accuracy@1_q0"] > 0.95
    assert values["accuracy@1_q1"] > 0.9
    assert values["accuracy@1_q3"] < 0.7  # there x_t is nearly nothing but noise
    assert values["accuracy@5"] == 1


def test_a_resumed_run_ends_in_the_same_bits(tmp_path: Path):
    def run(folder: Path, steps: int, resume: bool = False) -> dict[str, Any]:
        schedule = lambda optimizer: OneCycleLR(optimizer, 1e-2, total_steps=4)  # noqa: E731
        network = tiny.unet_config(out_channels=9, dropout=0.3)
        module = tiny.randomised(tiny.classifier(classifier=network, lr_scheduler=schedule))
        path = max((folder / "checkpoints").glob("*.ckpt")) if resume else None
        callbacks = [StepCheckpoint(every_n_steps=100), SampleGrid(every_n_steps=1)]
        trainer = tiny.trainer(folder, steps, *callbacks, ema=EMA(0.9), accumulate_grad_batches=2)
        trainer.fit(module, faces(), ckpt_path=path)
        assert not (folder / "samples").exists()  # there is nothing to draw
        return torch.load(folder / "checkpoints" / f"step={steps:08d}.ckpt", weights_only=True)

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "halves", 2)
    torch.manual_seed(12345)
    resumed = run(tmp_path / "halves", 4, resume=True)
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "ema", "tenshot", "global_step"):
        tiny.assert_same(resumed[part], whole[part], part)
    assert whole["optimizer_states"][0]["state"][0]["exp_avg"].abs().max() > 0
    assert whole["tenshot"]["method"] == "NoisyClassifier"


# Where it starts from


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose process, averaged and raw weights differ from every default."""
    folder = tmp_path_factory.mktemp("run")
    module = tiny.randomised(tiny.classifier(diffusion=COSINE))
    tiny.trainer(folder, 2, StepCheckpoint(), ema=EMA(0.9)).fit(module, faces())
    return folder


def started(path: Path, **arguments: Any) -> NoisyClassifier:
    module = NoisyClassifier(init_from=str(path), **arguments)
    module.configure_model()
    return module


def test_a_run_by_its_averaged_or_raw_weights(run: Path):
    content = torch.load(run / "checkpoints" / "step=00000002.ckpt", weights_only=True)
    module, raw = started(run), started(run, init_weights="raw")

    tiny.assert_same(module.classifier.state_dict(), content["ema"]["weights"]["classifier"])
    tiny.assert_same({f"classifier.{k}": v for k, v in raw.classifier.state_dict().items()}, content["state_dict"])
    assert not torch.equal(raw.classifier.pool.proj.weight, module.classifier.pool.proj.weight)  # type: ignore[union-attr]
    assert (module.classifier.config, module.diffusion.config) == (tiny.unet_config(out_channels=9), COSINE)


def test_other_classes_get_a_new_last_layer_and_keep_the_rest(run: Path):
    theirs, ours = started(run), started(run, classifier=tiny.unet_config(out_channels=4))
    new = {"pool.proj.weight", "pool.proj.bias"}
    state = ours.classifier.state_dict()
    tiny.assert_same(
        {k: v for k, v in state.items() if k not in new},
        {k: v for k, v in theirs.classifier.state_dict().items() if k not in new},
    )
    assert len(state["pool.proj.bias"]) == 4
    assert ours.diffusion.config == COSINE


def test_a_public_classifier_needs_nothing_where_the_table_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for module in ("models.pretrained.adm_classifier", "checkpoints.diffusion_networks"):
        monkeypatch.setattr(f"tenshot.{module}.CLASSIFIERS", (Classifier("tiny", 16, 1, (0.5,), "cosine"),))
    config = tiny.unet_config(channels=128, channel_mult=(0.5,), attention_resolutions=(16,), out_channels=1000)
    theirs = tiny.randomised(tiny.classifier(classifier=config))
    torch.save(tiny.public_classifier(theirs.classifier), tmp_path / "public.pt")
    ours = started(tmp_path / "public.pt")

    tiny.assert_same(ours.classifier.state_dict(), theirs.classifier.state_dict())
    assert (ours.diffusion.config.schedule, ours.classifier.config.head_channels) == ("cosine", 64)


def test_a_foreign_classifier_must_tell_what_shapes_do_not(tmp_path: Path):
    network = tiny.unet_config(channels=64, channel_mult=(1, 1), head_channels=64, out_channels=9)
    theirs = tiny.randomised(tiny.classifier(classifier=network))
    torch.save(tiny.public_classifier(theirs.classifier), tmp_path / "foreign.pt")
    with pytest.raises(InputError, match="shapes do not tell num_res_blocks"):
        started(tmp_path / "foreign.pt")
    with pytest.raises(InputError, match=r"does not tell its noise process: give --model\.diffusion"):
        started(tmp_path / "foreign.pt", classifier=theirs.classifier.config)
    ours = started(tmp_path / "foreign.pt", classifier=theirs.classifier.config, diffusion=COSINE)
    tiny.assert_same(ours.classifier.state_dict(), theirs.classifier.state_dict())


# What cannot be


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"labels": False}, r"learns from labels, the data has none: set --data\.labels true"),
        ({"image_size": 32}, r"images of 32 px \(--data\.image_size\) for a network of 16 px"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "validate"])
def test_data_must_suit_the_classifier(tmp_path: Path, data: dict[str, Any], message: str, command: str):
    with pytest.raises(InputError, match=message) as raised:
        getattr(tiny.trainer(tmp_path, 1), command)(tiny.classifier(), faces(**({"num_val": 2} | data)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("classes", [8, 10])
def test_the_number_of_classes_must_be_that_of_the_data(tmp_path: Path, classes: int):
    with pytest.raises(InputError, match=rf"the classifier has {classes} classes .*, the data 9: make them equal"):
        fit(tmp_path, tiny.classifier(classifier=tiny.unet_config(out_channels=classes)))


def test_it_needs_a_network_from_somewhere():
    with pytest.raises(InputError, match=r"give --model\.classifier, or weights to start from with --model\.init_from"):
        NoisyClassifier()


def test_it_draws_no_images():
    with pytest.raises(InputError, match=r"draws no images: .*--model\.guidance\.classifier"):
        tiny.classifier().predict_step({"index": torch.tensor([0]), "seed": torch.tensor([0])}, 0)


def test_a_classifier_is_no_diffusion_model_nor_the_other_way_round(run: Path, tmp_path: Path):
    with pytest.raises(InputError, match="a checkpoint of NoisyClassifier, which has no diffusion U-Net"):
        DDPM(init_from=str(run)).configure_model()
    weights = tiny.weights_file(tmp_path / "unet.safetensors", tiny.ddpm())
    with pytest.raises(InputError, match="which has no classifier of noisy images"):
        started(weights)
    torch.save(tiny.public_state(tiny.ddpm().unet.state_dict()), tmp_path / "unet.pt")
    with pytest.raises(InputError, match=r"unet\.pt: a diffusion U-Net, not a classifier of noisy images"):
        started(tmp_path / "unet.pt")


def test_a_checkpoint_of_another_classifier_is_not_resumed(run: Path, tmp_path: Path):
    path = run / "checkpoints" / "step=00000002.ckpt"
    other = tiny.classifier(classifier=tiny.unet_config(out_channels=9, attention_order="new"), diffusion=COSINE)
    with pytest.raises(InputError, match=r"another network, with classifier\.attention_order legacy \(here new\)"):
        tiny.trainer(tmp_path, 3).fit(other, faces(), ckpt_path=path)

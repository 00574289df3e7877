"""A resumed run has the optimisers and schedules of its configuration, and the state of its checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import SGD, Adafactor, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler, OneCycleLR, SequentialLR, StepLR

from tenshot.callbacks import Resumption, StepCheckpoint
from tenshot.errors import InputError
from tenshot.lightning_modules import StyleGAN2
from tenshot.lightning_modules.adversarial import GANAdam
from tenshot.models.augmentation import AdaptiveAugment

Make = Callable[[Any], Optimizer]
Schedule = Callable[[Optimizer], LRScheduler]


class Small(LightningModule):
    """Two weights, of which the second is never used."""

    def __init__(self, optimizer: Make, schedule: Schedule | None = None) -> None:
        super().__init__()
        self.unused, self.weight = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2))
        self.optimizer, self.schedule = optimizer, schedule

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return (self.weight * torch.randn(2, 2)).sum().square()

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameters())
        if self.schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.schedule(optimizer), "interval": "step"}}


def adam(**numbers: Any) -> Make:
    return lambda weights: Adam(weights, **({"lr": 0.1} | numbers))


def one_cycle(total: int, **numbers: Any) -> Schedule:
    return lambda optimizer: OneCycleLR(optimizer, 0.5, total_steps=total, **numbers)


def fit(
    folder: Path, steps: int, module: LightningModule, resume: int | None = None, **arguments: Any
) -> dict[str, Any]:
    """Train to that step, and read the checkpoint of it."""
    path = folder / "checkpoints" / f"step={resume:08d}.ckpt" if resume is not None else None
    data = arguments.pop("data", tiny.faces())
    callbacks = [Resumption(arguments.pop("compared", False)), StepCheckpoint(1, 9)]
    tiny.trainer(folder, steps, *callbacks, **arguments).fit(module, data, ckpt_path=path)
    content: dict[str, Any] = torch.load(folder / "checkpoints" / f"step={steps:08d}.ckpt", weights_only=True)
    return content


def numbers(checkpoint: dict[str, Any], which: int = 0) -> dict[str, Any]:
    return checkpoint["optimizer_states"][which]["param_groups"][0]


def moments(checkpoint: dict[str, Any], which: int = 0) -> dict[str, Any]:
    return checkpoint["optimizer_states"][which]["state"][1]


@pytest.mark.parametrize(
    "schedule",
    [
        None, one_cycle(6), lambda o: LinearLR(o, 1.0, 0.0, 6),
        lambda o: SequentialLR(o, [LinearLR(o, 0.1, 1.0, 3), StepLR(o, 1)], [3]),
    ],
)  # fmt: skip
def test_an_unchanged_run_goes_on_to_the_last_bit(tmp_path: Path, schedule: Schedule | None, caplog: Any):
    caplog.set_level("INFO")
    whole = fit(tmp_path / "whole", 6, Small(adam(), schedule))
    fit(tmp_path / "halves", 3, Small(adam(), schedule))
    halves = fit(tmp_path / "halves", 6, Small(adam(), schedule), resume=3)
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        tiny.assert_same(halves[part], whole[part], part)
    assert "resume" not in caplog.text


@pytest.mark.parametrize("changed", [{"lr": 0.01}, {"weight_decay": 0.5}, {"betas": (0.5, 0.9)}, {"eps": 1e-3}])
def test_the_numbers_of_the_configuration_count(tmp_path: Path, changed: dict[str, Any], caplog: Any):
    caplog.set_level("INFO")
    fit(tmp_path, 2, Small(adam()))
    [(name, value)] = changed.items()
    resumed = fit(tmp_path, 3, Small(adam(**changed)), resume=2)
    assert numbers(resumed)[name] == value
    assert moments(resumed)["step"] == 3
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("resume: ")]
    assert [line.split(" -> ")[1] for line in said] == [f"{value} from step 2"]
    assert said[0].startswith(f"resume: Adam {name} ")


def test_what_is_told_elsewhere_is_not_told_here(tmp_path: Path, caplog: Any):
    caplog.set_level("INFO")
    fit(tmp_path, 2, Small(adam()))
    assert numbers(fit(tmp_path, 3, Small(adam(lr=0.01)), resume=2, compared=True))["lr"] == 0.01
    assert "resume" not in caplog.text


@pytest.mark.parametrize(
    ("now", "name", "afresh"),
    [
        (lambda w: AdamW(w, 0.1), "AdamW", False),
        (lambda w: SGD(w, 0.1, momentum=0.5), "SGD", True),
        (lambda w: SGD(w, 0.1), "SGD", True),
        (adam(amsgrad=True), "Adam", True),
    ],
)
def test_moments_are_kept_where_they_are_the_same(tmp_path: Path, now: Make, name: str, afresh: bool, caplog: Any):
    caplog.set_level("INFO")
    fit(tmp_path, 2, Small(adam()))
    resumed = fit(tmp_path, 3, Small(now), resume=2)
    assert (f"resume: {name} starts afresh at step 2" in caplog.text) == afresh
    if name.startswith("Adam"):
        assert moments(resumed)["step"] == (1 if afresh else 3)
    again = fit(tmp_path / "again", 3, Small(now))
    assert numbers(resumed).keys() == numbers(again).keys()


def rates(schedule: Schedule, steps: int, **settings: Any) -> list[float]:
    """Of the first steps, as PyTorch has them."""
    optimizer = Adam([nn.Parameter(torch.zeros(1))], **({"lr": 0.1} | settings))
    course, found = schedule(optimizer), []
    for _ in range(steps + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        course.step() if len(found) <= steps else None
    return found


@pytest.mark.parametrize(
    ("before", "now", "lr"),
    [
        (one_cycle(4), one_cycle(8), 0.1), (None, lambda o: LinearLR(o, 1.0, 0.0, 8), 0.1),
        (lambda o: StepLR(o, 1), lambda o: StepLR(o, 2), 0.1), (lambda o: StepLR(o, 1), one_cycle(9), 0.1),
        (lambda o: StepLR(o, 2), lambda o: StepLR(o, 2), 0.3), (one_cycle(9), one_cycle(9, final_div_factor=10), 0.1),
    ],
)  # fmt: skip
def test_another_schedule_is_where_it_would_be(
    tmp_path: Path, before: Any, now: Any, lr: float, caplog: Any, recwarn: pytest.WarningsRecorder
):
    """Also a finished one that has become longer, and the same one from another learning rate or to another end."""
    caplog.set_level("INFO")
    fit(tmp_path, 4, Small(adam(), before))
    for step in (5, 6):
        resumed = fit(tmp_path, step, Small(adam(lr=lr), now), resume=step - 1)
        assert numbers(resumed)["lr"] == pytest.approx(rates(now, step, lr=lr)[step], rel=1e-12)
    assert caplog.text.count("of its new course") == 1
    assert not [warning for warning in recwarn if "lr_scheduler.step()" in str(warning.message)]
    assert moments(resumed)["step"] == 6


def test_what_no_schedule_moves_is_told(tmp_path: Path, caplog: Any):
    caplog.set_level("INFO")
    fit(tmp_path, 2, Small(adam(), one_cycle(9)))
    fit(tmp_path, 3, Small(adam(betas=(0.9, 0.5)), one_cycle(9)), resume=2)
    assert "resume" not in caplog.text  # one cycle moves the betas
    fit(tmp_path / "steps", 2, Small(adam(), lambda o: StepLR(o, 2)))
    fit(tmp_path / "steps", 3, Small(adam(betas=(0.9, 0.5)), lambda o: StepLR(o, 2)), resume=2)
    assert "resume: Adam betas (0.9, 0.999) -> (0.9, 0.5) from step 2" in caplog.text


@pytest.mark.parametrize("now", [adam(), lambda w: SGD(w, 0.1)], ids=["Adam", "SGD"])
def test_an_optimiser_that_keeps_nothing(tmp_path: Path, now: Make, caplog: Any):
    caplog.set_level("INFO")
    before = fit(tmp_path, 2, Small(lambda w: SGD(w, 0.1)))["optimizer_states"][0]
    assert not any(before["state"].values())
    resumed = fit(tmp_path, 3, Small(now), resume=2)
    if now(iter([nn.Parameter(torch.ones(1))])).__class__ is Adam:
        assert moments(resumed)["step"] == 1
    assert "afresh" not in caplog.text


def test_an_optimiser_that_keeps_other_moments_of_vectors_than_of_matrices(tmp_path: Path, caplog: Any):
    caplog.set_level("INFO")
    fit(tmp_path, 2, Small(lambda w: Adafactor(w, 0.1)))
    assert moments(fit(tmp_path, 3, Small(lambda w: Adafactor(w, 0.1)), resume=2))["step"] == 3
    assert "afresh" not in caplog.text


def test_weights_alone_say_nothing_of_optimisers():
    resumption = Resumption()
    resumption.on_load_checkpoint(None, None, weights := {"state_dict": {}})  # type: ignore[arg-type]
    resumption.on_fit_start(None, None)  # type: ignore[arg-type]
    assert weights == {"state_dict": {}}


def test_without_its_schedule_the_learning_rate_is_that_of_the_configuration(tmp_path: Path):
    fit(tmp_path, 2, Small(adam(), one_cycle(9)))
    assert numbers(fit(tmp_path, 3, Small(adam()), resume=2))["lr"] == 0.1


def test_the_second_beta_counts_where_the_schedule_moves_the_first(tmp_path: Path):
    fit(tmp_path, 2, Small(adam(), one_cycle(9)))
    whole = fit(tmp_path / "whole", 3, Small(adam(), one_cycle(9)))
    resumed = numbers(fit(tmp_path, 3, Small(adam(betas=(0.9, 0.5)), one_cycle(9)), resume=2))
    assert resumed["betas"] == (numbers(whole)["betas"][0], 0.5)


def test_a_schedule_that_ends_before_the_checkpoint(tmp_path: Path):
    fit(tmp_path, 3, Small(adam()))
    with pytest.raises(InputError, match=r"--model.lr_scheduler OneCycleLR ends before step 3.*--trainer.max_steps"):
        fit(tmp_path, 4, Small(adam(), one_cycle(2)), resume=3)


def gan(**arguments: Any) -> StyleGAN2:
    return tiny.gan(**arguments)


@pytest.fixture(scope="module")
def of_gan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gan")
    fit(folder, 1, gan(), data=tiny.faces(image_size=32))
    return folder


def test_each_optimiser_of_a_gan_has_its_own_rate_corrected_for_its_regulariser(of_gan: Path, caplog: Any):
    caplog.set_level("INFO")
    slow = gan(optimizer_g=lambda weights: GANAdam(weights, lr=1e-4))
    resumed = fit(of_gan, 2, slow, resume=1, data=tiny.faces(image_size=32))
    assert numbers(resumed, 0)["lr"] == 1e-4 * (4 / 5)
    assert numbers(resumed, 0)["betas"] == (0.0, 0.99 ** (4 / 5))
    assert numbers(resumed, 1)["lr"] == 0.002 * (16 / 17)
    assert "resume: GANAdam lr 0.0016 -> 8e-05 from step 1" in caplog.text


def test_augmentation_may_come_change_and_go(of_gan: Path):
    data = tiny.faces(image_size=32)
    adaptive = fit(of_gan, 3, gan(augmentation=AdaptiveAugment()), resume=1, data=data)["state_dict"]
    assert adaptive["augmentation.probability"] == 0
    fixed = fit(of_gan, 4, gan(augmentation=AdaptiveAugment(0.25)), resume=3, data=data)["state_dict"]
    assert fixed["augmentation.probability"] == 0.25
    fixed = fit(of_gan, 5, gan(augmentation=AdaptiveAugment(0.5)), resume=4, data=data)["state_dict"]
    assert fixed["augmentation.probability"] == 0.5
    assert "augmentation.probability" not in fit(of_gan, 6, gan(), resume=5, data=data)["state_dict"]

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from tenshot.callbacks import EMA, StepCheckpoint
from tenshot.datamodules import FewShot
from tenshot.diffusion import Denoised, DiffusionConfig
from tenshot.errors import InputError
from tenshot.lightning_modules import DDPM, DDPMPA, Pairwise
from tenshot.losses import high_frequency, pairwise_similarity_loss
from tenshot.models import UNet

PAIRS = ("pair_image", "pair_high_frequency")
FACTOR = 1.5  # of the adapted weights against the source's, where they are to differ


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    module = tiny.randomised(tiny.ddpm(unet=tiny.unet_config(dropout=0.3)))
    return tiny.weights_file(tmp_path_factory.mktemp("source") / "source.safetensors", module)


def started(folder: Path, module: DDPMPA, batch_size: int = 4) -> DDPMPA:
    """The module with its source, as after the start of a run that takes no step."""
    tiny.trainer(folder, 0).fit(module, tiny.faces(batch_size=batch_size))
    module.on_fit_start()  # a run without steps ends before it
    return module


def moved(module: DDPMPA) -> DDPMPA:
    """With other weights than the source's."""
    with torch.no_grad():
        for parameter in module.unet.parameters():
            parameter.mul_(FACTOR)
    return module


def one_step(module: DDPMPA, n: int = 4, t: Tensor | None = None) -> Denoised:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, 3, 16, 16, generator=generator) * 2 - 1
    noise = torch.randn(n, 3, 16, 16, generator=generator)
    t = torch.randint(module.diffusion.num_steps, (n,), generator=generator) if t is None else t
    return module.denoiser.predict(x, t, noise)


def fit(folder: Path, module: DDPMPA, steps: int, *callbacks: Any, data: Any = None, **arguments: Any) -> Trainer:
    trainer = tiny.trainer(folder, steps, *callbacks, **arguments)
    trainer.fit(module, data or tiny.faces(), ckpt_path=None)
    return trainer


# The loss


@pytest.mark.parametrize("prediction", ["epsilon", "velocity"])
def test_before_the_first_step_the_pairs_agree(tmp_path: Path, prediction: Any):
    process = DiffusionConfig(prediction=prediction)
    trained = tiny.weights_file(tmp_path / "source.safetensors", tiny.randomised(tiny.ddpm(diffusion=process)))
    module = started(tmp_path, tiny.ddpm_pa(trained))
    module.eval()  # without dropout
    terms = module.loss_terms(one_step(module))

    pairs = torch.stack([terms[name] for name in PAIRS])
    assert pairs.abs().max() < 1e-6
    [gradient] = torch.autograd.grad(pairs.sum(), [module.unet.conv.weight], retain_graph=True)
    [of_all] = torch.autograd.grad(sum(term.sum() for term in terms.values()), [module.unet.conv.weight])
    assert gradient.abs().max() < 1e-5 * of_all.abs().max()
    assert terms.keys() == {"mse", "vb", "high_frequency_mse", *PAIRS}


def test_the_terms_by_hand(tmp_path: Path, source: Path):
    weights = Pairwise(image=0.3, high_frequency=0.7, high_frequency_mse=0.02)
    module = moved(started(tmp_path, tiny.ddpm_pa(source, pairwise=weights)))
    module.eval()
    step = one_step(module)
    terms = module.loss_terms(step)

    frozen = tiny.ddpm(init_from=str(source), unet=None).eval()
    a = torch.tensor(module.diffusion.alphas_cumprod)[step.t].view(-1, 1, 1, 1)
    estimates = [
        (step.x_t.double() - (1 - a).sqrt() * network(step.x_t, step.t)[:, :3].double()) / a.sqrt()
        for network in (module.unet, frozen.unet)
    ]
    high = [high_frequency(x) for x in estimates]
    expected = {
        "pair_image": 0.3 * pairwise_similarity_loss(*estimates),
        "pair_high_frequency": 0.7 * pairwise_similarity_loss(*high),
        "high_frequency_mse": 0.02 * (high[0] - high_frequency(step.x0.double())).square().flatten(1).mean(1),
    }
    plain = DDPM.loss_terms(module, step)
    assert terms.keys() == plain.keys() | expected.keys()
    for name, value in (plain | expected).items():
        torch.testing.assert_close(terms[name].double(), value.double(), rtol=2e-3, atol=1e-7, msg=name)
    assert terms["pair_image"] > 1e-5  # so that there was something to compare


def test_weights_of_zero_leave_direct_fine_tuning(tmp_path: Path, source: Path):
    module = started(tmp_path, tiny.ddpm_pa(source, pairwise=Pairwise(0, 0, 0)))
    assert module.source.network is None  # nobody pays for a forward pass that nobody needs
    assert module.loss_terms(one_step(module)).keys() == {"mse", "vb"}


def test_the_published_code_compares_three_of_the_batch(tmp_path: Path, source: Path):
    conventions = {"direction": "source||adapted", "reduction": "mean"}
    module = moved(started(tmp_path, tiny.ddpm_pa(source, pairwise=Pairwise(4, 4, 1, anchors=3, **conventions)), 8))
    module.eval()
    assert module.source.network is not None
    seen: list[Tensor] = []
    module.source.network.register_forward_pre_hook(lambda network, inputs: seen.append(inputs[0]))
    step = one_step(module, 8)
    terms = module.loss_terms(step)

    [x_t] = seen
    rows = [next(i for i in range(8) if torch.equal(step.x_t[i], image)) for image in x_t]
    assert len(set(rows)) == 3
    estimate = module.diffusion.x0(step.output, step.x_t, step.t)[rows]
    frozen = module.diffusion.x0(module.source.network(x_t, step.t[rows]), x_t, step.t[rows])
    expected = 4 * pairwise_similarity_loss(estimate, frozen, "source||adapted", "mean")
    torch.testing.assert_close(terms["pair_image"], expected)
    draws = [torch.randperm(8)[:3] for _ in range(2)]
    assert not torch.equal(*draws)


def test_min_snr_takes_away_what_the_noise_prediction_amplifies(tmp_path: Path, source: Path):
    t = torch.tensor([10, 300, 700, 999])
    values = []
    for weighting in ("uniform", "min_snr"):
        only = Pairwise(0, 0, 1, mse_weighting=weighting)  # type: ignore[arg-type]
        module = tiny.ddpm_pa(source, pairwise=only)
        values.append(module.eval().loss_terms(one_step(module, t=t))["high_frequency_mse"])
    a = module.diffusion.alphas_cumprod[t]
    np.testing.assert_allclose((values[1] / values[0]).detach(), np.minimum(1, a / (1 - a)), rtol=1e-4)


def test_the_source_sees_the_labels(tmp_path: Path):
    classes = tiny.unet_config(num_classes=9)
    trained = tiny.weights_file(tmp_path / "source.safetensors", tiny.randomised(tiny.ddpm(unet=classes)))
    module = tiny.ddpm_pa(trained)
    tiny.trainer(tmp_path, 0).fit(module, tiny.faces(labels=True))
    module.on_fit_start()
    assert module.source.network is not None
    seen: list[Tensor] = []
    module.source.network.register_forward_pre_hook(
        lambda network, inputs, told: seen.append(told["label"]), with_kwargs=True
    )
    x, labels = torch.rand(4, 3, 16, 16), torch.tensor([8, 0, 3, 3])
    module.loss_terms(module.denoiser.predict(x, torch.tensor([5, 50, 100, 500]), x, {"label": labels}))
    assert [y.tolist() for y in seen] == [labels.tolist()]


# The source


def test_the_source_is_neither_trained_nor_saved_nor_averaged(tmp_path: Path, source: Path):
    module = tiny.ddpm_pa(source)
    before = {name: value.clone() for name, value in module.unet.state_dict().items()}
    fit(tmp_path, module, 2, StepCheckpoint(every_n_steps=2), ema=EMA(0.9))

    assert module.source.network is not None
    tiny.assert_same(module.source.network.state_dict(), before)
    assert all(p.grad is None and not p.requires_grad for p in module.source.network.parameters())
    assert not any(torch.equal(value, before[name]) for name, value in module.unet.named_parameters())
    content = torch.load(tmp_path / "checkpoints" / "step=00000002.ckpt", weights_only=True)
    plain = tiny.ddpm(init_from=str(source), unet=None)
    assert content["state_dict"].keys() == plain.state_dict().keys()
    assert content["ema"]["weights"].keys() == {"unet"}
    assert content["tenshot"]["source"].items() >= module.source.entry.items()
    assert Path(content["tenshot"]["source"]["path"]) == source.resolve()


@pytest.mark.parametrize("dropout", [False, True])
def test_the_source_has_no_dropout_unless_it_is_asked_for(tmp_path: Path, source: Path, dropout: bool):
    module = started(tmp_path, tiny.ddpm_pa(source, pairwise=Pairwise(source_dropout=dropout)))
    assert module.source.network is not None
    assert isinstance(module.source.network, UNet)
    x, t = torch.rand(2, 3, 16, 16), torch.tensor([5, 50])
    assert torch.equal(module.source.network(x, t), module.source.network(x, t)) is not dropout


@pytest.mark.parametrize(("precision", "dtype"), [("bf16-mixed", torch.bfloat16), ("32-true", torch.float32)])
def test_the_source_is_kept_in_what_it_is_run_in_which_changes_no_bit(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, precision: Any, dtype: torch.dtype
):
    def learned(folder: Path) -> DDPMPA:
        module = tiny.ddpm_pa(source)
        fit(folder, module, 2, precision=precision)
        return module

    module = learned(tmp_path / "rounded")
    assert module.source.network is not None
    assert module.source.network.encoder.stem.weight.dtype == dtype
    assert module.unet.encoder.stem.weight.dtype == torch.float32
    monkeypatch.setattr(UNet, "round_for_autocast", lambda network, dtype: None)
    tiny.assert_same(module.state_dict(), learned(tmp_path / "cast").state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unet": {"image_size": 32}}, "source's unet.image_size is 32, the adapted model's 16"),
        ({"diffusion": DiffusionConfig(schedule="cosine")}, "trained with .*cosine.*leave out --model.diffusion"),
    ],
)
def test_another_kind_of_source_is_refused(tmp_path: Path, source: Path, change: dict[str, Any], message: str):
    other = tiny.ddpm(**{k: tiny.unet_config(**v) if isinstance(v, dict) else v for k, v in change.items()})
    path = tiny.weights_file(tmp_path / "other.safetensors", other)
    with pytest.raises(InputError, match=message):
        fit(tmp_path, tiny.ddpm_pa(source, source=str(path)), 1)


def test_what_cannot_be_compared_is_refused(tmp_path: Path, source: Path, shots: Path):
    with pytest.raises(InputError, match=r"data.batch_size is 2, but the pairwise losses compare at least 3"):
        fit(tmp_path, tiny.ddpm_pa(source), 1, data=FewShot(str(shots), shots=3, image_size=16, batch_size=2))
    with pytest.raises(InputError, match="anchors is 2: it takes 3"):
        Pairwise(anchors=2)
    with pytest.raises(InputError, match=r"pairwise.image is -1"):
        Pairwise(image=-1)
    with pytest.raises(InputError, match=r"DDPMPA adapts a trained model: .*--model.init_from"):
        DDPMPA(unet=tiny.unet_config())


# What it logs


def test_it_logs_every_term_and_by_quarter_of_the_noise(tmp_path: Path, source: Path):
    trainer = fit(tmp_path, tiny.ddpm_pa(source, collapse_every_n_steps=0), 2, log_every_n_steps=2)
    logged = trainer.callback_metrics
    assert {f"train/{name}" for name in ("loss", "mse", "vb", "high_frequency_mse", *PAIRS)} <= logged.keys()
    assert any(name.startswith("train/high_frequency_mse_q") for name in logged)
    assert not any(name.startswith("train/pair_image_q") for name in logged)


def test_the_watch_on_collapse_compares_samples_of_both_models(tmp_path: Path, source: Path):
    still = tiny.ddpm_pa(source, optimizer=tiny.adam(lr=0.0), collapse_every_n_steps=1)
    logged = fit(tmp_path / "still", still, 1).callback_metrics
    assert logged["collapse/adapted"] == logged["collapse/source"]
    images = still.sample(torch.arange(4), preview=True).flatten(1).double().numpy()
    cosines = np.corrcoef(np.hstack([images, -images]))  # with its negative, so that the mean is 0
    assert logged["collapse/source"].item() == pytest.approx((cosines.sum() - 4) / 12, rel=1e-4)

    learning = tiny.ddpm_pa(source, collapse_every_n_steps=1)
    logged = fit(tmp_path / "learning", learning, 1).callback_metrics
    assert logged["collapse/adapted"] != logged["collapse/source"]

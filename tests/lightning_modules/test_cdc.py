"""CDC: anchors, which head judges when, the distance to the source, and the source itself."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from tenshot.callbacks import EMA, StepCheckpoint
from tenshot.errors import InputError
from tenshot.lightning_modules import CDC, Correspondence, Regularization
from tenshot.models import StyleGAN2Generator

QUIET = Regularization(r1=0.0, path_length=0.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A StyleGAN2 after two steps."""
    folder = tmp_path_factory.mktemp("source")
    tiny.trainer(folder, 2, StepCheckpoint()).fit(tiny.gan(), tiny.faces(image_size=32))
    return str(folder / "checkpoints" / "step=00000002.ckpt")


def cdc(source: str, **options: Any) -> CDC:
    rest = options.pop("regularization", QUIET)
    return tiny.gan(CDC, init_from=source, correspondence=Correspondence(**options), regularization=rest)


class Follow:
    """Which heads moved at each step."""

    def __init__(self, module: CDC) -> None:
        self.module, self.moved = module, []  # type: ignore[var-annotated]
        module.on_train_batch_start = self.before  # type: ignore[method-assign,assignment]
        module.on_train_batch_end = self.after  # type: ignore[method-assign,assignment]

    def weights(self) -> dict[str, Tensor]:
        heads = {str(i): head.weight.clone() for i, head in enumerate(self.module.heads.heads)}
        return {**heads, "image": self.module.discriminator.output.weight.clone()}

    def before(self, *position: Any) -> None:
        self.kept = self.weights()

    def after(self, *position: Any) -> None:
        self.moved.append({name for name, value in self.weights().items() if not torch.equal(value, self.kept[name])})


def test_one_step_in_so_many_judges_whole_images_and_the_others_patches(tmp_path: Path, source: str):
    module = cdc(source, image_every=3, taps=1)
    follow = Follow(module)
    tiny.trainer(tmp_path, 6).fit(module, tiny.faces(image_size=32))
    assert follow.moved == [{"image"}, {"0"}, {"0"}] * 2


def test_all_taps_are_judged_at(tmp_path: Path, source: str):
    module = cdc(source, image_every=100, taps=4)
    follow = Follow(module)
    tiny.trainer(tmp_path, 12).fit(module, tiny.faces(image_size=32))
    assert set().union(*follow.moved) == {"image", "0", "1", "2", "3"}


def test_whole_images_are_drawn_from_around_the_anchors(source: str, monkeypatch: pytest.MonkeyPatch):
    module = cdc(source, anchors=3, anchor_std=0.01)
    seen: list[Tensor] = []
    mapping = module.generator.mapping
    monkeypatch.setattr(module.generator, "mapping", lambda z: (seen.append(z), mapping(z))[1])
    module.around_anchors(200)
    distances = torch.cdist(seen[0], module.anchors)
    nearest, which = distances.min(1)
    assert len(which.unique()) == 3
    assert nearest.square().mean().item() == pytest.approx(0.01**2 * tiny.STYLEGAN2.latent_dim, rel=0.2)
    module.any_images(200)
    assert torch.cdist(seen[1], module.anchors).min(1)[0].mean() > 0.5


def equal_source(module: CDC) -> StyleGAN2Generator:
    """The frozen source, made equal to the generator; both add noise."""
    module.trainer = tiny.trainer(Path("unused"), 1)  # type: ignore[assignment]
    module.on_fit_start()
    assert module.source.network is not None
    with torch.no_grad():
        for layer in module.generator.layers:
            layer.noise_strength.fill_(0.5)
        module.source.network.load_state_dict(module.generator.state_dict())
    return module.source.network


@pytest.mark.parametrize("layers", ["one", "all"])
def test_the_distance_to_itself_is_nothing_with_equal_noise(source: str, layers: str):
    """And so is its gradient."""
    module = cdc(source, same_noise=True, layers=layers)
    network = equal_source(module)
    distance = module._distance(network)
    distance.backward()
    assert distance.item() == pytest.approx(0, abs=1e-6)
    assert max(p.grad.abs().max().item() for p in module.generator.parameters() if p.grad is not None) < 1e-5

    with torch.no_grad():
        module.generator.layers[2].weight.add_(torch.randn_like(module.generator.layers[2].weight))
    assert module._distance(network).item() > 1e-6


def test_equal_generators_with_noise_of_their_own_are_apart(source: str):
    """The published code draws the noise maps of the two apart."""
    module = cdc(source)
    network = equal_source(module)
    assert module._distance(network).item() > 1e-6


def test_the_source_stays_out_of_the_checkpoint_and_another_one_is_refused(tmp_path: Path, source: str):
    module = cdc(source)
    tiny.trainer(tmp_path, 2, StepCheckpoint(), ema=EMA(0.5)).fit(module, tiny.faces(image_size=32))
    path = tmp_path / "checkpoints" / "step=00000002.ckpt"
    content = torch.load(path, weights_only=True)
    parts = {name.split(".")[0] for name in content["state_dict"]}
    assert parts == {"generator", "discriminator", "heads", "anchors", "path_length_mean"}
    assert set(content["ema"]["weights"]) == {"generator"}
    assert content["tenshot"]["source"]["path"] == str(Path(source).resolve())
    tiny.assert_same(module.source.network.state_dict(), tiny.gan(init_from=source).generator.state_dict())  # type: ignore[union-attr]

    other = tmp_path / "other"
    tiny.trainer(other, 1, StepCheckpoint()).fit(tiny.gan(), tiny.faces(image_size=32))
    again = tiny.gan(CDC, init_from=source, source=str(other), regularization=QUIET)
    with pytest.raises(InputError, match=r"the source model of this adaptation is missing: .* is equal to it"):
        tiny.trainer(tmp_path / "again", 3).fit(again, tiny.faces(image_size=32), ckpt_path=path)


def test_a_weight_of_zero_needs_no_source_model(tmp_path: Path, source: str):
    module = cdc(source, weight=0.0)
    trainer = tiny.trainer(tmp_path, 1)
    trainer.fit(module, tiny.faces(image_size=32))
    assert module.source.network is None
    assert "train/distance" not in trainer.callback_metrics


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"weight": -1.0}, r"--model\.correspondence\.weight is -1\.0: choose at least 0"),
        ({"batch_size": 2}, r"--model\.correspondence\.batch_size is 2: it takes 3 images"),
        ({"taps": 5}, r"--model\.correspondence\.taps is 5: choose 1 to 4"),
        ({"anchors": 0}, r"--model\.correspondence\.anchors is 0: choose at least 1"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], complaint: str):
    with pytest.raises(InputError, match=complaint):
        Correspondence(**options)


def test_it_adapts_a_trained_model():
    with pytest.raises(InputError, match=r"CDC adapts a trained model: give its checkpoint with --model\.init_from"):
        CDC(stylegan2=tiny.STYLEGAN2)

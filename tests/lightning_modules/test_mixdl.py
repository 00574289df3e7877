"""MixDL: which steps mix, what judges them, the two distances; stopped and resumed."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import Tensor

from tenshot.callbacks import EMA, StepCheckpoint
from tenshot.errors import InputError
from tenshot.lightning_modules import MixDL, Mixup, Regularization
from tenshot.lightning_modules import mixdl as module_of_mixdl
from tenshot.models.augmentation import AdaptiveAugment

QUIET = Regularization(r1=0.0, path_length=0.0)
R1_ONLY = Regularization(r1=10.0, r1_every=2, path_length=0.0)


def moved_by_each_step(folder: Path, steps: int, module: MixDL) -> list[set[str]]:
    """Which of the discriminator's ends changed at each step."""
    moved: list[set[str]] = []
    kept: dict[str, Tensor] = {}

    def ends() -> dict[str, Tensor]:
        heads = torch.cat([head.weight.flatten() for head in module.heads.heads])
        named = {"image": module.discriminator.output.weight, "heads": heads}
        return {name: value.clone() for name, value in (named | {"projection": module.projection.weight}).items()}  # type: ignore[dict-item]

    module.on_train_batch_start = lambda *_: kept.update(ends())  # type: ignore[method-assign,assignment]
    module.on_train_batch_end = lambda *_: moved.append(  # type: ignore[method-assign,assignment]
        {name for name, value in ends().items() if not torch.equal(value, kept[name])}
    )
    tiny.trainer(folder, steps).fit(module, tiny.faces(image_size=32))
    return moved


MIXES, PLAIN = {"heads", "projection"}, {"image"}


@pytest.mark.parametrize(
    ("release", "every", "rest", "expected"),
    [
        ("first", 2, QUIET, [PLAIN, MIXES] * 2),
        ("head", 2, QUIET, [MIXES, PLAIN] * 2),
        ("first", 3, QUIET, [PLAIN, PLAIN, MIXES, PLAIN]),
        ("first", 2, R1_ONLY, [PLAIN, MIXES] * 2),  # the penalty falls on steps of whole images
        ("head", 2, R1_ONLY, [MIXES, PLAIN] * 2),  # the penalty falls on steps of patches
    ],
)
def test_whole_images_and_mixed_latents_take_turns(
    tmp_path: Path, release: Any, every: int, rest: Regularization, expected: list[set[str]]
):
    module = tiny.gan(MixDL, mixup=Mixup(release=release, every=every), regularization=rest)
    assert moved_by_each_step(tmp_path, 4, module) == expected


def kl_of_rows(coefficients: Tensor, similarities: Tensor) -> float:
    """Mean over all pairs of KL(softmax C || softmax S), element by element."""
    total = 0.0
    for c, s in zip(coefficients.softmax(1).double(), similarities.double().softmax(1), strict=True):
        total += sum(p * (p / q).log().item() for p, q in zip(c, s, strict=True))
    return float(total) / coefficients.numel()


def test_the_discriminator_places_mixes_by_their_coefficients(monkeypatch: pytest.MonkeyPatch):
    module = tiny.gan(MixDL)
    seen: list[Tensor] = []
    penultimate = module.discriminator.penultimate
    monkeypatch.setattr(module.discriminator, "penultimate", lambda x: (seen.append(x), penultimate(x))[1])
    drawn: list[Tensor] = []
    draw = module._coefficients
    monkeypatch.setattr(module, "_coefficients", lambda n: (drawn.append(draw(n)), drawn[-1])[1])
    terms = module.mixed_discriminator_terms(torch.rand(4, 3, 32, 32) * 2 - 1)

    [batch], [coefficients] = seen, drawn
    assert len(batch) == 8  # one pass, so that its groups hold both kinds
    placed = module.projection(penultimate(batch))
    similarities = torch.stack([F.cosine_similarity(mixed[None], placed[:4]) for mixed in placed[4:]])
    assert terms["distance_d"].item() == pytest.approx(kl_of_rows(coefficients, similarities), rel=1e-4)
    assert coefficients.sum(1) == pytest.approx([1.0] * 4)


def test_the_generators_distance_is_of_new_latents_with_the_judged_coefficients(monkeypatch: pytest.MonkeyPatch):
    module = tiny.gan(MixDL)
    passes: list[tuple[Tensor, list[Tensor]]] = []
    features = module._features
    monkeypatch.setattr(module, "_features", lambda w: (passes.append((w, features(w))), passes[-1][1])[1])
    chosen: list[list[int]] = []
    choices = module.choices.choices
    monkeypatch.setattr(
        module.choices, "choices", lambda range_, k: (chosen.append(choices(range_, k=k)), chosen[-1])[1]
    )
    judged: list[Tensor] = []
    draw = module._coefficients
    monkeypatch.setattr(module, "_coefficients", lambda n: (judged.append(draw(n)), judged[-1])[1])
    terms = module.mixed_generator_terms(4)

    (w, plain), (wa, mixed) = passes
    [coefficients], [layers] = judged, chosen
    torch.testing.assert_close(wa, coefficients @ w)
    assert all(1 <= layer <= module.generator.config.num_layers - 2 for layer in layers)
    similarities = torch.stack(
        [F.cosine_similarity(mixed[at][a].flatten()[None], plain[at].flatten(1)) for a, at in enumerate(layers)]
    )
    assert terms["distance_g"].item() == pytest.approx(1000 * kl_of_rows(coefficients, similarities), rel=1e-3)


@pytest.mark.parametrize("concentration", [0.05, 20.0])
def test_latents_are_mixed_with_the_concentration_asked_for(monkeypatch: pytest.MonkeyPatch, concentration: float):
    """A coefficient of a symmetric Dirichlet distribution of n numbers has the variance (n - 1) / n^2 / (n c + 1)."""
    module, n = tiny.gan(MixDL, mixup=Mixup(concentration=concentration)), 32
    drawn: list[Tensor] = []
    distance = module_of_mixdl.mixup_distance_loss
    monkeypatch.setattr(
        module_of_mixdl,
        "mixup_distance_loss",
        lambda *args, **options: (drawn.append(args[2]), distance(*args, **options))[1],
    )
    torch.manual_seed(0)
    module.mixed_discriminator_terms(torch.rand(n, 3, 32, 32) * 2 - 1)
    module.mixed_generator_terms(n)
    assert len(drawn) == 2
    for coefficients in drawn:
        assert coefficients.var().item() == pytest.approx((n - 1) / n**2 / (n * concentration + 1), rel=0.25)


def test_judged_images_are_of_mixed_latents(monkeypatch: pytest.MonkeyPatch):
    module = tiny.gan(MixDL, mixup=Mixup(coefficients="uniform"))
    ws: list[Tensor] = []
    mapping = module.generator.mapping
    monkeypatch.setattr(module.generator, "mapping", lambda z: (ws.append(mapping(z)), ws[-1])[1])
    drawn: list[Tensor] = []
    broadcast = module.generator.broadcast
    monkeypatch.setattr(module.generator, "broadcast", lambda w: (drawn.append(w), broadcast(w))[1])
    rows: list[Tensor] = []
    coefficients = module._coefficients
    monkeypatch.setattr(module, "_coefficients", lambda n: (rows.append(coefficients(n)), rows[-1])[1])
    module.mixed_generator_terms(4)
    torch.testing.assert_close(drawn[0], rows[0] @ ws[0])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"generator": -1.0}, r"--model\.mixup\.generator is -1\.0: choose at least 0"),
        ({"every": 0}, r"--model\.mixup\.every is 0: choose at least 1"),
        ({"taps": 0}, r"--model\.mixup\.taps is 0: choose 1 to 4"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], complaint: str):
    with pytest.raises(InputError, match=complaint):
        Mixup(**options)


@pytest.mark.parametrize("batch", [1, 3])
def test_latents_that_cannot_be_mixed_or_judged(tmp_path: Path, batch: int):
    with pytest.raises(InputError, match=f"latents of a micro-batch, which has {batch} .*: give it 2, or a multiple"):
        tiny.trainer(tmp_path, 1).fit(tiny.gan(MixDL), tiny.faces(image_size=32, batch_size=batch))


# Stopped between an even and an odd step, with the augmentation's window open


def test_stopped_mid_alternation_it_ends_in_the_same_bits(tmp_path: Path):
    def fit(folder: Path, steps: int, resume: Path | None = None) -> Path:
        module = tiny.gan(MixDL, augmentation=AdaptiveAugment(images_to_full=100, target=-1.0))
        trainer = tiny.trainer(folder, steps, StepCheckpoint(every_n_steps=100), ema=EMA(half_life=40))
        trainer.fit(module, tiny.faces(image_size=32, shots=10), ckpt_path=resume)
        return folder / "checkpoints" / f"step={steps:08d}.ckpt"

    paths = fit(tmp_path / "whole", 7), fit(tmp_path / "rest", 7, resume=fit(tmp_path / "half", 3))
    whole, resumed = (torch.load(path, weights_only=True) for path in paths)
    for part in ("state_dict", "optimizer_states", "ema", "global_step"):
        tiny.assert_same(resumed[part], whole[part], part)
    state = whole["state_dict"]
    assert state["augmentation.probability"] > 0.1
    assert state["path_length_mean"] > 0
    assert {"heads.heads.3.weight", "projection.weight"} <= state.keys()

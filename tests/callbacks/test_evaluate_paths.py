import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from linear_generator import LinearGenerator

from tenshot.callbacks import EMA, EvaluateGenerator
from tenshot.datamodules import Samples
from tenshot.distributed.seeding import position_seed
from tenshot.errors import InputError
from tenshot.metrics import PathUniformity, PerceptualPathLength
from tenshot.metrics.latent_paths import slerp

PATHS = 5


def evaluated(folder: Path, module: Any = None, batch_size: int = 64, **options: Any) -> dict[str, Any]:
    """The file that ``tenshot test`` leaves."""
    evaluation = EvaluateGenerator(features="random", samples=3, batch_size=batch_size, reference=4, **options)
    evaluation.data = tiny.faces(shots=3)
    evaluation.data.setup("test")
    trainer = tiny.trainer(folder, 1, evaluation)
    trainer.test(module or LinearGenerator(noise=0.1), Samples(3), verbose=False)
    [path] = (folder / "evaluations").iterdir()
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def test_a_method_with_latents_gets_path_metrics_unasked_and_others_do_not(tmp_path: Path):
    names = {"path_dist_random_wend", "path_dist_random", "path_dist_random_std", "path_dist_random_ends"}
    assert names < evaluated(tmp_path / "latents", paths=2)["values"].keys()
    assert not names & evaluated(tmp_path / "none", tiny.randomised(tiny.ddpm()))["values"].keys()


def test_named_for_a_method_without_latents_is_one_line(tmp_path: Path):
    with pytest.raises(InputError, match=r"metrics path_uniformity needs latents to go between, .* or leave it out"):
        evaluated(tmp_path, tiny.ddpm(), metrics=["pairwise_lpips", "path_uniformity"])


@torch.no_grad()
def test_paths_go_between_neighbouring_samples_with_one_noise(tmp_path: Path):
    module = LinearGenerator(noise=0.1)
    metrics: Any = ["path_uniformity", "path_length"]
    found = evaluated(tmp_path, metrics=metrics, paths=PATHS, seed=2, path_length="zfull")
    length, uniformity = PerceptualPathLength("random", None, None, "z", "full"), PathUniformity("random")
    for number in range(PATHS):
        seeds = (2 << 32) + torch.tensor([2 * number, 2 * number + 1])
        a, b = module.latents(seeds, "w")
        steps = torch.stack([a + j / 10 * (b - a) for j in range(11)])
        uniformity.update(module.decode(steps, seeds[:1].expand(11), "w")[None])
        a, b = module.latents(seeds, "z")
        t = torch.rand((), generator=torch.Generator().manual_seed(position_seed([1, int(seeds[0])])))
        pair = torch.stack([slerp(a, b, t), slerp(a, b, t + 1e-4)])
        length.update(module.decode(pair, seeds[:1].expand(2), "z")[None])
    assert found["values"] == pytest.approx(uniformity.report().values | length.report().values, rel=5e-3)
    assert found["metrics"]["path_length"]["settings"]["n_paths"] == PATHS
    assert found["values"]["path_dist_random_std"] > 0

    in_parts = evaluated(tmp_path / "parts", batch_size=4, metrics=metrics, paths=PATHS, seed=2, path_length="zfull")
    assert in_parts["values"] == pytest.approx(found["values"], rel=5e-3)


def test_during_fit_paths_are_drawn_only_if_named_and_of_the_average(tmp_path: Path):
    def fitted(folder: Path, **options: Any) -> dict[str, Any]:
        evaluation = EvaluateGenerator(features="random", every_n_steps=2, fit_samples=3, reference=4, **options)
        module = LinearGenerator(lr=300.0)
        tiny.trainer(folder, 2, evaluation, ema=EMA(0.9)).fit(module, tiny.faces(shots=3))
        fitted.module = module  # type: ignore[attr-defined]
        result: dict[str, Any] = json.loads((folder / "evaluations" / "step=00000002.json").read_text())
        return result

    assert not any(name.startswith("path") for name in fitted(tmp_path / "unasked")["values"])
    named = fitted(tmp_path / "named", metrics=["path_uniformity"], keep_best="path_dist_random_std")
    assert named["metrics"]["path_uniformity"]["settings"]["n_paths"] == 3
    assert (tmp_path / "named" / "checkpoints" / "best.ckpt").exists()

    checkpoint = torch.load(tmp_path / "named" / "checkpoints" / "best.ckpt", weights_only=True)
    values = []
    for weights in (checkpoint["ema"]["weights"]["network"], fitted.module.network.state_dict()):  # type: ignore[attr-defined]
        module = LinearGenerator()
        module.network.load_state_dict(weights)
        values.append(evaluated(tmp_path / str(len(values)), module, metrics=["path_uniformity"], paths=3)["values"])
    assert values[0] == pytest.approx(named["values"], rel=1e-5)
    assert values[1] != pytest.approx(named["values"], rel=1e-3)

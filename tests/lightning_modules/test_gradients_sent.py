"""What two gloo processes send each other: gradients in bfloat16, by the fragment that is shipped, and once a step.

Run by ``run_ranks``, this file is the script of one rank.
"""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from lightning.pytorch.strategies import DDPStrategy
from ranks import run_ranks
from torch import Tensor
from torch.distributed import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.futures import Future

from tenshot.callbacks import NanGuard
from tenshot.cli import main

FRAGMENT = Path(__file__).parents[2] / "configs" / "trainer" / "ddp_bf16_gradients.yaml"
RUNS = {
    "float32": [],
    "bf16": ["--config", str(FRAGMENT)],
    "accumulated": ["--trainer.accumulate_grad_batches", "3"],
}
TWO: dict[str, Any] = {"trainer": {"devices": 2, "strategy": "ddp", "max_steps": 1}}


def one_rank(folder: Path) -> None:
    torch.set_num_threads(1)
    rank = os.environ["RANK"]
    source = tiny.weights_file(
        folder / f"source{rank}.safetensors", tiny.randomised(tiny.ddpm(unet=tiny.unet_config(**tiny.SMALL)))
    )

    sent: list[int] = []

    def register(strategy: DDPStrategy) -> None:
        """As Lightning does on GPUs, and on them alone; and count what is sent."""
        hook = strategy._ddp_comm_hook or allreduce_hook

        def counted(state: Any, bucket: GradBucket) -> Future[Tensor]:
            sent.append(bucket.buffer().numel())
            return hook(state, bucket)

        strategy.model.register_comm_hook(strategy._ddp_comm_state, counted)  # type: ignore[union-attr]

    def dump(guard: Any, trainer: Any, module: Any, optimizer: Any) -> None:
        found["gradients"] = {key: weight.grad.clone() for key, weight in module.named_parameters()}

    DDPStrategy._register_ddp_hooks = register  # type: ignore[method-assign]
    NanGuard.on_before_optimizer_step = dump  # type: ignore[method-assign,assignment]
    for name, words in RUNS.items():
        found: dict[str, Any] = {"sent": sent}
        sent.clear()
        run = ["--model.init_from", str(source), "--trainer.default_root_dir", str(folder / name)]
        main(["fit", "--config", str(folder / "config0.yaml"), *words, *run])
        torch.save(found, folder / f"{name}{rank}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The averaged gradients of a step, the same on both ranks, and how many numbers were sent in each piece."""
    folder = tmp_path_factory.mktemp("ranks")
    tiny.config_file(folder, TWO)
    run_ranks(__file__, folder, timeout=250)
    found = {}
    for name in RUNS:
        found[name], other = (torch.load(folder / f"{name}{rank}.pt") for rank in range(2))
        tiny.assert_same(found[name], other)
    return found


def test_gradients_have_eight_bits_and_agree_with_those_of_float32(ranks: dict[str, dict[str, Any]]):
    exact: dict[str, Tensor] = ranks["float32"]["gradients"]
    for name, sent in ranks["bf16"]["gradients"].items():
        assert torch.equal(sent, sent.bfloat16().float()), name
        assert (sent - exact[name]).abs().max() <= 2**-7 * exact[name].abs().max(), name
    assert any(not torch.equal(value, value.bfloat16().float()) for value in exact.values())


def test_gradients_are_sent_once_a_step_however_many_micro_batches_it_has(ranks: dict[str, dict[str, Any]]):
    weights = sum(gradient.numel() for gradient in ranks["float32"]["gradients"].values())
    for found in ranks.values():
        assert sum(found["sent"]) == weights


if __name__ == "__main__":
    one_rank(Path(sys.argv[1]))

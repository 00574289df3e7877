"""What an adaptation of few parameters leaves in checkpoints, and files that hold what it trained alone."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tenshot.checkpoints.kind import Trained, Weights, plain_fields
from tenshot.checkpoints.shipped import shipped_file
from tenshot.errors import InputError
from tenshot.models.adaptation import Adaptation, merged, plus_low_rank
from tenshot.models.pretrained import sha256

__all__ = ["ADAPT", "ADAPTED_FROM", "Adapted", "merged_as_told", "weights_sha256", "with_what_was_trained"]

ADAPT, ADAPTED_FROM = "adapt", "adapted_from"
"""Entries in what a file of ours says of itself: by network, its ``Adaptation``; and what was adapted."""


class Adapted:
    """Which networks of a method are adapted by few parameters, and from what.

    Args:
        adaptations: By the names of the networks; none where all weights are trained.
    """

    def __init__(self, **adaptations: Adaptation | None) -> None:
        self.adaptations = {name: one for name, one in adaptations.items() if one is not None}
        self.source: Mapping[str, Any] = {}
        """Where the weights came from that are adapted: ``path``, ``weights`` and the ``sha256`` of the file."""

    def apply(
        self,
        module: LightningModule,
        initial: Trained[Any] | None,
        given: str | None,
        weights: Weights,
        whole: Callable[[str], bool] = lambda name: False,
    ) -> None:
        """Freeze the networks but for what is adapted.

        Args:
            module: The method, with its networks and their first weights.
            initial: What they were read from; none where a checkpoint will bring them.
            given: That file as the user named it.
            weights: Which weights of it.
            whole: See :meth:`Adaptation.apply`.
        """
        for name, adaptation in self.adaptations.items():
            network = module.get_submodule(name)
            every = sum(weight.numel() for weight in network.parameters())
            adaptation.apply(network, whole)
            if initial is not None:
                trained = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
                rank_zero_info(f"{name}: {trained:,} numbers are trained beside {every:,} weights: {adaptation}")
        if initial is not None and self.adaptations:
            named = given is not None and shipped_file(given) is not None  # a name is good on other machines
            path = given if named else str(Path(initial.path).resolve())
            self.source = {"path": path, "weights": weights, "sha256": sha256(initial.path)}

    def refuse_untrained(self, module: LightningModule, init_from: str | None) -> None:
        """Make sure that what is adapted was trained.

        Raises:
            InputError: It begins with fresh weights.
        """
        if self.adaptations and init_from is None and module.trainer.ckpt_path is None:
            raise InputError("--model.adapt changes trained weights a little: give them with --model.init_from")

    def words(self) -> dict[str, Any]:
        """What a checkpoint tells of it."""
        if not self.adaptations:
            return {}
        told = {name: plain_fields(adaptation) for name, adaptation in self.adaptations.items()}
        return {ADAPT: told, ADAPTED_FROM: dict(self.source)}

    def refuse_other(self, words: Mapping[str, Any], where: str, remedy: str) -> None:
        """Compare with a checkpoint that is to be resumed or drawn from, and remember what it adapted.

        Raises:
            InputError: Other weights were trained, or in another way.
        """
        theirs, ours = _told(words), self.adaptations
        if theirs != ours:
            said = [", ".join(f"{n} {one}" for n, one in each.items()) or "all weights" for each in (theirs, ours)]
            raise InputError(f"{where}: trained were {said[0]}, here --model.adapt is of {said[1]}: {remedy}")
        self.source = words.get(ADAPTED_FROM, {})


def _told(words: Mapping[str, Any]) -> dict[str, Adaptation]:
    return {name: Adaptation(**fields) for name, fields in words.get(ADAPT, {}).items()}


def merged_as_told(
    states: Mapping[str, Mapping[str, Tensor]], words: Mapping[str, Any]
) -> dict[str, Mapping[str, Tensor]]:
    """The plain weights of networks, some of which may be adapted.

    Args:
        states: By the names of the networks.
        words: What their checkpoint says of itself.
    """
    told = _told(words)
    return {name: merged(state, told[name].factor) if name in told else state for name, state in states.items()}


def weights_sha256(states: Mapping[str, Mapping[str, Tensor]]) -> str:
    """Hexadecimal SHA-256 of networks' weights, as float32, whatever file they are in and in whichever order."""
    digest = hashlib.sha256()
    for network in sorted(states):
        for name, value in sorted(states[network].items()):
            digest.update(f"{network}.{name} {list(value.shape)}\n".encode())
            digest.update(value.detach().float().contiguous().view(-1).numpy().data)
    return digest.hexdigest()


def with_what_was_trained(
    path: str, content: Mapping[str, Tensor], words: Mapping[str, Any], source: Trained[Any]
) -> dict[str, Mapping[str, Tensor]]:
    """The plain weights of networks of which a file holds what was trained alone, by their names.

    Args:
        path: The file, for messages.
        content: Its weights, as ``adapters.trained_alone`` gives them.
        words: What it says of itself.
        source: What they were adapted from; entries that the adapted networks do not have are left in.

    Raises:
        InputError: They were adapted from other weights.
    """
    adaptations, recorded = _told(words), words[ADAPTED_FROM]
    there = weights_sha256({network: source.states.get(network, {}) for network in adaptations})
    if there != recorded["sha256"]:
        raise InputError(
            f"{path}: adapts {recorded['path']}, weights of sha256 {recorded['sha256'][:12]}…, not those of "
            f"{source.path} ({there[:12]}…): give a copy of them, tenshot convert {path} OUTPUT --adapted_from FILE"
        )
    states: dict[str, Mapping[str, Tensor]] = {}
    for network, adaptation in adaptations.items():
        state, begin = dict(source.states[network]), f"{network}."
        for name, value in content.items():
            layer, _, end = name.removeprefix(begin).rpartition(".")
            if not name.startswith(begin) or end == "lora_B":
                continue
            if end == "lora_A":
                weight, up = state[f"{layer}.weight"], content[f"{begin}{layer}.lora_B"]
                state[f"{layer}.weight"] = plus_low_rank(weight.float(), value.float(), up.float(), adaptation.factor)
            else:
                state[name.removeprefix(begin)] = value
        states[network] = state
    return states

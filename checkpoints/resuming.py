"""What a method checks of the checkpoint that it is to go on with, beside its networks' configuration."""

from typing import Any

from lightning.pytorch import LightningModule

from tenshot.diffusion import DiffusionConfig
from tenshot.errors import InputError
from tenshot.models.pretrained.filling import refuse_misfit

__all__ = ["fit_to_method"]

REMEDY = "give the configuration of its run, or start a new run from its weights with --model.init_from"


def fit_to_method(
    module: LightningModule,
    checkpoint: dict[str, Any],
    where: str,
    process: DiffusionConfig | None = None,
    free: str | None = None,
) -> None:
    """Bring the state of a checkpoint into the shape of a method's, where it may differ.

    Training goes on with the method and the noise process that made the checkpoint alone; others may draw from it.

    Args:
        module: The method, with its networks.
        checkpoint: Whose ``state_dict`` is changed.
        where: Its name.
        process: Of the method, if it has one.
        free: Name of a part that may be another one, whose state then starts anew.

    Raises:
        InputError: It does not fit.
    """
    words = checkpoint.get("tenshot", {})
    if module._trainer is not None and module.trainer.training:
        if words.get("method") not in (None, type(module).__name__):
            raise InputError(f"{where}: of a run of {words['method']}, not of {type(module).__name__}: {REMEDY}")
        if process is not None and (differ := _differences(DiffusionConfig(**words["diffusion"]), process)):
            raise InputError(f"{where}: trained with {differ}: {REMEDY}")
    own, found = module.state_dict(), checkpoint["state_dict"]
    if free is not None:
        found = {name: value for name, value in found.items() if name in own or not name.startswith(f"{free}.")}
        found |= {name: value for name, value in own.items() if name not in found and name.startswith(f"{free}.")}
        checkpoint["state_dict"] = found
    try:
        refuse_misfit(module, found, where)
    except InputError as error:
        raise InputError(f"{error}: {REMEDY}") from None


def _differences(found: DiffusionConfig, asked: DiffusionConfig) -> str:
    pairs = [(name, value, getattr(asked, name)) for name, value in vars(found).items()]
    return ", ".join(f"diffusion.{name} {its} (here {ours})" for name, its, ours in pairs if its != ours)

"""What a method starts from, and which checkpoints it can go on with or draw from."""

from typing import TYPE_CHECKING, Any, TypeVar

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from tenshot.checkpoints.adapted import Adapted
from tenshot.checkpoints.kind import Kind, Trained
from tenshot.checkpoints.uses import used_in_training
from tenshot.diffusion import DiffusionConfig
from tenshot.errors import InputError
from tenshot.models.pretrained import refuse_misfit

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["refuse_other", "start_from"]

C = TypeVar("C", bound="DataclassInstance")

REMEDY = "give the configuration of its run, or start a new run from its weights with --model.init_from"


def start_from(trained: Trained[Any], module: LightningModule) -> str:
    """Give a method's networks the weights that were read, and note in its run that it depends on their file.

    Args:
        trained: What was read.
        module: The method, whose networks are its attributes of the names that they have in the kind.

    Returns:
        What the weights are, in words.

    Raises:
        InputError: They do not fit, or some are NaN or infinite.
    """
    for name in trained.kind.networks:
        if name in trained.states:
            trained.fill(name, getattr(module, name))
        else:
            rank_zero_warn(f"{trained.path}: has no {name}, which starts anew")
    used_in_training(trained.path, module)
    rank_zero_info(f"{trained.path}: starting from {trained.origin}")
    return f"{trained.path}: {trained.origin}"


def refuse_other(
    module: LightningModule,
    checkpoint: dict[str, Any],
    kind: Kind[C],
    config: C,
    process: DiffusionConfig | None = None,
    free: str | None = None,
    adapted: Adapted | None = None,
) -> None:
    """Compare a checkpoint that is to be resumed or evaluated with a method, and bring its state into that shape.

    Training goes on with the method and the noise process that made the checkpoint alone; others may draw from it.

    Args:
        module: The method, with its networks.
        checkpoint: Whose ``state_dict`` is changed.
        kind: What networks the method has.
        config: Their architecture.
        process: Of the method, if it has one.
        free: Name of a part that may be another one, whose state then starts anew.
        adapted: Which of its weights are trained, where that can be told; it then remembers what they adapt.

    Raises:
        InputError: It is a checkpoint of other networks, other weights of them were trained, or training would go on
            with another method or process.
    """
    where = str(module.trainer.ckpt_path) if module._trainer is not None else "the checkpoint"
    words = checkpoint.get("tenshot", {})
    if kind.name not in words:
        raise InputError(
            f"{where}: a checkpoint of {words.get('method', 'another program')}, which has no {kind.words}: give "
            "another --ckpt_path or --model"
        )
    if differ := kind.differences(kind.config(**words[kind.name]), config):
        raise InputError(f"{where}: a checkpoint of another network, with {differ}: {REMEDY}")
    training = module._trainer is not None and module.trainer.training
    if training and words.get("method") not in (None, type(module).__name__):
        raise InputError(f"{where}: of a run of {words['method']}, not of {type(module).__name__}: {REMEDY}")
    if process is not None and (differ := _differences(DiffusionConfig(**words["diffusion"]), process)):
        if training:
            raise InputError(f"{where}: trained with {differ}: {REMEDY}")
        rank_zero_warn(f"{where} was trained with {differ}")
    if adapted is not None:
        adapted.refuse_other(words, where, REMEDY)
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

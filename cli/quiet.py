"""What libraries say that no user can act on."""

import logging
import warnings

__all__ = ["quiet"]


def quiet() -> None:
    """Leave it out."""
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")  # sys.argv stays, for the other ranks
    warnings.filterwarnings("ignore", message=".*no `validation_step`")  # a GAN has no validation loss
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated", category=FutureWarning)  # inside Lightning
    warnings.filterwarnings("ignore", message="Please use the new API settings to control TF32")  # models/float32.py
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")  # into which nobody writes
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "Tip:" not in record.getMessage()
    )

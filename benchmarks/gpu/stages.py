"""The stages in their order."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """A stage: a module of this package whose ``run(context)`` writes rows under this name.

    Args:
        call: 1, the checks, or 2, the measurements.
        name: Of the rows; what follows a dot is passed to ``run(context, part)``.
        seconds: What it is expected to take on a GPU; it is dropped if less of the budget is left.
        alone: It measures, so that nothing else may run meanwhile. Others run side by side, each in its own process.
    """

    call: int
    name: str
    seconds: int
    alone: bool = True

    @property
    def module(self) -> str:
        return self.name.partition(".")[0]

    @property
    def part(self) -> str | None:
        return self.name.partition(".")[2] or None


METHODS = (
    "ddpm", "learned", "ddpmpa", "classifier", "stylegan2", "ada", "diffaugment", "tgan", "cdc", "mixdl", "layouts",
    "folders",
)  # fmt: skip

STAGES = (
    Stage(1, "machine", 20),
    Stage(1, "agreement", 45, alone=False),
    *(Stage(1, f"methods.{part}", 60, alone=False) for part in METHODS),
    *(Stage(1, f"resume.{part}", 45, alone=False) for part in ("ddpm", "ddpmpa", "stylegan2")),
    *(Stage(1, f"distributed.{part}", 45, alone=False) for part in ("collectives", "fsdp", "ddp", "signal")),
    Stage(2, "unet256.ours", 50),
    Stage(2, "unet256.official", 12),
    Stage(2, "adaptation.ours", 50),
    Stage(2, "adaptation.authors", 15),
    Stage(2, "stylegan2.ours", 100),
    Stage(2, "stylegan2.nvlabs", 40),
    Stage(2, "stylegan2.rosinality", 20),
    Stage(2, "memory", 40),
    Stage(2, "metrics", 20),
    Stage(2, "compiled", 150),
)


def chosen(call: str, names: str | None) -> list[Stage]:
    """The stages of a call, or only those named; a name without its part means all parts.

    Raises:
        ValueError: There is no such stage.
    """
    if names is None:
        return [stage for stage in STAGES if call in ("all", str(stage.call))]
    found = []
    for name in names.split(","):
        matching = [stage for stage in STAGES if name in (stage.name, stage.module)]
        if not matching:
            raise ValueError(f"no stage {name!r}: choose from {', '.join(stage.name for stage in STAGES)}")
        found += matching
    return found

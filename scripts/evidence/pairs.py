"""What is compared of PITI on pairs of drawn faces: the trainings, the data, and what they cost."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from tenshot.callbacks.image_writer import write_png
from tenshot.datamodules import SyntheticFaces

from .plan import START
from .sets import FAR, TRUE, Faces

NAME = "pairs"
FIRST, LARGE = "start", "upsampler"
"""Targets of what others start from, and of the upsampler."""
DOMAINS = {"mask": "faces", "sketch": "faces", "babies": "babies", "sketches": "sketches", LARGE: "faces"}
"""By target; conditions are masks but where it is called sketch."""
PRIOR_SEED, SEGMENTER_SEED = 0, 77  # of their heads; those of the pairs have the seed of the run
COUNTS, COUNT = (50, 100, 1000), 100
"""Of pairs: with the first seed all of them; COUNT with every seed, and wherever nothing else is said."""
PER_CONDITION, REFERENCE = 5, 500  # samples of each condition, and true images that they are compared with
W = (0.5, 1.0, 2.0, 4.0)
"""Strengths of guidance, the paper's w."""

BATCH, STEPS = 16, 300  # steps of each method, over all its stages
EVALUATION = {32: 0.008, 64: 0.024}  # seconds of one core that an evaluation of the network takes, of an image
UNGUIDED = ("--model.classifier_free", "null")


@dataclass(frozen=True)
class Training:
    """A ``fit``.

    Args:
        name: Of the command.
        recipe: That it runs.
        steps: Of training.
        seconds: Of one core that an image in a step takes.
        options: What the recipe is changed by.
        source: What it starts from: the prior, or the training before it; none: nothing.
        batch: Images a step.
    """

    name: str
    recipe: str
    steps: int
    seconds: float
    options: tuple[str, ...] = ()
    source: Literal["prior", "before"] | None = None
    batch: int = BATCH

    @property
    def cost(self) -> float:
        """Seconds of one core."""
        return START + self.steps * self.batch * self.seconds


RECIPES = "configs/piti/faces"
FROZEN, WHOLE = 0.016, 0.025  # of stage 1, and of a step that trains all weights
PRIOR = Training("train", f"{RECIPES}32_prior.yaml", 1600, WHOLE)
SKETCHES = ("--model.piti.condition_channels", "1")
"""What the first training of each method has for sketches: the prior's encoder of masks is left out there."""
HIDDEN = ("--model.condition_drop", "0.2")
SCRATCH = (*HIDDEN, "--model.timesteps", "loss_aware", "--model.piti.condition_input", "true")
FIRST_STAGE = f"{RECIPES}32_mask_stage1.yaml"
METHODS: dict[str, tuple[Training, ...]] = {
    "two-stage": (
        Training("train_1", FIRST_STAGE, STEPS // 2, FROZEN, source="prior"),
        Training("train_2", f"{RECIPES}32_mask.yaml", STEPS // 2, WHOLE, UNGUIDED, "before"),
    ),
    "one-stage": (Training("train", FIRST_STAGE, STEPS, WHOLE, ("--model.stage", "2", *HIDDEN), "prior"),),
    "from scratch": (Training("train", PRIOR.recipe, STEPS, WHOLE, SCRATCH),),
}
ALONE = "attention alone"
"""Two-stage with the network of the paper, whose first convolution sees no condition: on masks, with the first seed."""
PAPERS = (
    replace(METHODS["two-stage"][0], options=("--model.piti.condition_input", "false")), METHODS["two-stage"][1],
)  # fmt: skip
SHIFTED = ("two-stage", "from scratch")
"""Which of them are compared on other domains than the prior's."""


def _upsampler(*options: str) -> Training:
    return Training("train", f"{RECIPES}64_mask.yaml", 400, 0.09, options, batch=8)


NO_PERCEPTUAL, NO_ADVERSARY = ("--model.perceptual.weight", "0"), ("--model.adversary.weight", "0")
UPSAMPLERS = {
    "diffusion loss alone": _upsampler(*NO_PERCEPTUAL, *NO_ADVERSARY),
    "+ perceptual": _upsampler(*NO_ADVERSARY),
    "+ adversarial": _upsampler(*NO_PERCEPTUAL),
    "+ both": _upsampler(),
}
SEGMENTING = "segmenters"
SEGMENTERS = {
    domain: Training(f"train_{domain}", "configs/dense_predictor/faces32_mask.yaml", 400, 0.009)
    for domain in dict.fromkeys(DOMAINS.values())
}


class Pairs(Faces):
    """The drawn faces with masks or sketches."""

    name = NAME
    targets = tuple(DOMAINS)
    sources: ClassVar = {}
    judged = False

    def size(self, target: str) -> int:
        """Of the images, in pixels."""
        return 64 if target == LARGE else 32

    def pairs(self, target: str, seed: int, size: int, conditions: int = 0) -> list[str]:
        """Options of the data; ``conditions`` are kept from training, to be drawn from."""
        kind = "sketch" if target == "sketch" else "mask"
        argv = ["--data", "SyntheticFaces", "--data.domain", DOMAINS[target], "--data.pairs", kind]
        argv += ["--data.image_size", str(size), "--data.condition_size", str(size)]
        return [*argv, "--data.num_val", str(conditions), "--data.seed", str(seed)]

    def in_folder(self, folder: Path, target: str, seed: int) -> list[str]:
        """Options that measure the images of a folder, drawn by whomever."""
        data = ["--data", "SyntheticFaces", "--data.domain", DOMAINS[target], "--data.seed", str(seed)]
        data += ["--data.image_size", str(self.size(target)), "--data.num_val", "0"]
        return ["--model", "FolderGenerator", "--model.root", str(folder), *data]

    def prepare(self, root: Path, target: str, seed: int) -> None:
        """Draw the true images."""
        folder = self.folder(root, target, seed)
        if (folder / f"{TRUE - 1:06d}.png").exists():
            return
        faces = SyntheticFaces(domain=DOMAINS[target], seed=seed, num_val=0, image_size=self.size(target))
        for number, image in enumerate(faces.reference(TRUE, start=FAR).read(range(TRUE))["image"]):
            write_png(image.permute(1, 2, 0), folder / f"{number:06d}.png")


PAIRS = Pairs()

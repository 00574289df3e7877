"""The commands of the comparison of PITI on pairs of drawn faces, in order."""

from dataclasses import dataclass, replace
from pathlib import Path

from .pairs import (
    ALONE,
    COUNT,
    COUNTS,
    DOMAINS,
    EVALUATION,
    FIRST,
    LARGE,
    METHODS,
    PAIRS,
    PAPERS,
    PER_CONDITION,
    PRIOR,
    PRIOR_SEED,
    REFERENCE,
    SEGMENTER_SEED,
    SEGMENTERS,
    SEGMENTING,
    SHIFTED,
    SKETCHES,
    UNGUIDED,
    UPSAMPLERS,
    Training,
    W,
)
from .plan import FEATURES, FULL, START, Method, Run, Scale, Task

DISTANCES = ["frechet", "precision_recall"]


@dataclass(frozen=True)
class PairsRun(Run):
    """A method with a seed: what it trains, then what is measured of it.

    Args:
        trainings: In order; none: true images are measured.
        count: Of pairs that it is trained on; 0: all heads.
    """

    trainings: tuple[Training, ...] = ()
    count: int = 0

    @property
    def needs(self) -> Path | None:
        """The last file of what it is built on; a prior waits for the segmenters, so that what has a prior has both."""
        if self.name == SEGMENTING or self.method is None:
            return None
        if self.target == LARGE:
            return self.small / f"{self.scale.samples - 1:06d}.png"
        if self.target == FIRST or not self.trainings[0].source:
            before = _first(self.root, SEGMENTING, tuple(SEGMENTERS.values()), self.scale)
        else:
            before = self._prior
        return before.checkpoint(before.trainings[-1])

    @property
    def measured(self) -> dict[str, str]:
        """Folder of each measurement, by what the table calls it."""
        if self.target == FIRST:
            return {}
        guided = {}
        if (self.target, self.name, self.seed) == ("mask", f"two-stage, {COUNT} pairs", self.scale.seeds[0]):
            guided = {f"{how}, w = {w:g}": f"{how}_{w:g}" for w in W for how in ("plain", "normalized")}
        return {self.name: "last"} | guided

    def group_of(self, name: str) -> str:
        """``guidance`` for the values of w, ``methods`` for what is compared."""
        return "guidance" if ", w = " in name else "methods"

    def tasks(self) -> list[Task]:
        """What it takes, in order."""
        if self.method is None:
            return [self._measure("last", PAIRS.in_folder(self.images, self.target, self.seed), DISTANCES)]
        tasks = [self._train(number) for number in range(len(self.trainings))]
        if self.target == LARGE:
            enlarged = PAIRS.in_folder(self.images, self.target, self.seed)
            return [*tasks, self._enlarge(), self._measure("last", enlarged, DISTANCES)]
        for name, where in self.measured.items():
            tasks.append(self._draw(where, *(name.split(", w = ") if self.group_of(name) == "guidance" else ())))
        return tasks

    def checkpoint(self, training: Training) -> Path:
        """The last one of a training of this run."""
        return self.folder / training.name / "checkpoints" / f"step={self._steps(training):08d}.ckpt"

    @property
    def conditions(self) -> int:
        """How many are drawn from."""
        return -(-self.scale.samples // PER_CONDITION)

    @property
    def images(self) -> Path:
        """Where the samples lie that the table's first value is of."""
        return PAIRS.folder(self.root, self.target, self.seed) if self.method is None else self.folder / "last/images"

    @property
    def _prior(self) -> "PairsRun":
        return prior(self.root, self.scale)

    @property
    def small(self) -> Path:
        """What the upsampler enlarges."""
        return method(self.root, "mask", "two-stage", COUNT, self.seed, self.scale).images

    def _steps(self, training: Training) -> int:
        return min(training.steps, self.scale.most_steps or training.steps)

    def _train(self, number: int) -> Task:
        training = self.trainings[number]
        argv, steps = ["fit", "--config", training.recipe, *training.options], self._steps(training)
        if training.source is not None:
            source = self._prior if training.source == "prior" else self
            argv += ["--model.init_from", str(source.checkpoint(source.trainings[number - 1]))]
        if self.target == FIRST:
            argv += ["--data.domain", next((name for name, one in SEGMENTERS.items() if one == training), "faces")]
            argv += ["--data.num_val", "0", "--data.seed", str(self.seed)]
        else:
            argv += PAIRS.pairs(self.target, self.seed, PAIRS.size(self.target))
            argv += ["--data.shots", str(self.count), "--data.batch_size", str(training.batch)]
        argv += ["--trainer.max_steps", str(steps), "--checkpoint.every_n_steps", str(max(1, steps // 4))]
        argv += ["--grid.every_n_steps", "0", "--trainer.limit_val_batches", "0", "--seed_everything", str(self.seed)]
        argv += ["--trainer.enable_progress_bar", "false"]
        argv += ["--trainer.default_root_dir", str(self.folder / training.name), "--ckpt_path", "last"]
        cost = replace(training, steps=steps).cost
        return Task(training.name, argv, str(self.checkpoint(training).relative_to(self.folder)), cost)

    def _sampler(self) -> list[str]:
        return ["--model.sampler.method", "dpm_solver", "--model.sampler.steps", str(self.scale.sampler_steps)]

    def _draw(self, where: str, how: str | None = None, w: str = "") -> Task:
        """Draw from conditions that nothing was trained on, and measure."""
        metrics = [*DISTANCES, "diversity_lpips"]
        metrics += ["near_copies"] if self.count <= COUNT and how is None else []
        argv = ["--ckpt_path", str(self.checkpoint(self.trainings[-1])), *self._sampler()]
        argv += PAIRS.pairs(self.target, self.seed, 32, self.conditions)
        argv += ["--data.shots", str(self.count), "--evaluate.per_condition", str(PER_CONDITION)]
        if self.target == "sketch":
            metrics.append("edge_agreement")
        else:
            metrics.append("mask_iou")
            segmenters = _first(self.root, SEGMENTING, tuple(SEGMENTERS.values()), self.scale)
            argv += ["--evaluate.predictor", str(segmenters.checkpoint(SEGMENTERS[DOMAINS[self.target]]))]
        if how is None:
            argv += UNGUIDED
        else:
            normalize = "image" if how == "normalized" else "null"
            argv += ["--model.classifier_free", f"{{scale: {1 + float(w):g}, normalize: {normalize}}}"]
        argv += ["--evaluate.save", str(self.folder / where / "images")]
        evaluations = self.scale.sampler_steps * (1 if how is None else 2)
        seconds = self.scale.samples * evaluations * EVALUATION[32]
        seconds += 2 * self.count * FEATURES if "near_copies" in metrics else 0
        return self._measure(where, argv, metrics, seconds)

    def _enlarge(self) -> Task:
        """Enlarge what the two-stage method draws, by the same masks."""
        checkpoint = str(self.checkpoint(self.trainings[0]))
        argv = ["predict", "--ckpt_path", checkpoint, *PAIRS.pairs(self.target, self.seed, 64, self.conditions)]
        argv += ["--images.low_res", str(self.small), "--images.dir", str(self.images), *self._sampler()]
        argv += ["--trainer.enable_progress_bar", "false"]
        cost = START + self.scale.samples * self.scale.sampler_steps * EVALUATION[64]
        return Task("draw_last", argv, f"last/images/{self.scale.samples - 1:06d}.png", cost)

    def _measure(self, where: str, what: list[str], metrics: list[str], seconds: float = 0.0) -> Task:
        scale, folder = self.scale, self.folder / where
        argv = ["test", *what, "--evaluate.metrics", f"[{', '.join(metrics)}]", "--evaluate.features", scale.features]
        argv += ["--evaluate.samples", str(scale.samples), "--evaluate.reference", str(REFERENCE)]
        argv += ["--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", str(folder)]
        cost = START + (scale.samples + REFERENCE) * FEATURES + seconds
        return Task(where, argv, f"{where}/evaluations/*.json", cost)


def _run(
    root: Path, target: str, seed: int, name: str, trainings: tuple[Training, ...], scale: Scale, count: int = COUNT
) -> PairsRun:
    last = trainings[-1]
    told = Method(name, "PITI", last.recipe, None, last.steps, last.batch)
    return PairsRun(root, PAIRS, target, seed, told, scale, trainings, count)


def _first(root: Path, name: str, trainings: tuple[Training, ...], scale: Scale) -> PairsRun:
    """What others start from."""
    seed = SEGMENTER_SEED if name == SEGMENTING else PRIOR_SEED
    return _run(root, FIRST, seed, name, trainings, scale, 0)


def prior(root: Path, scale: Scale) -> PairsRun:
    """The prior of images alone."""
    return _first(root, "prior", (PRIOR,), scale)


def method(root: Path, target: str, name: str, count: int, seed: int, scale: Scale) -> PairsRun:
    """A method on so many pairs."""
    trainings = (METHODS | {ALONE: PAPERS})[name]
    if target == "sketch":
        trainings = (replace(trainings[0], options=trainings[0].options + SKETCHES), *trainings[1:])
    return _run(root, target, seed, f"{name}, {count} pairs", trainings, scale, count)


def runs(root: Path, scale: Scale = FULL) -> list[PairsRun]:
    """All of them, first those with the first seed; of a toy those of COUNT pairs."""
    found = [_first(root, SEGMENTING, tuple(SEGMENTERS.values()), scale)]
    found.append(prior(root, scale))
    for seed in scale.seeds:
        first = seed == scale.seeds[0]
        for target in DOMAINS:
            if first:
                found.append(PairsRun(root, PAIRS, target, seed, None, scale))
            if target == LARGE:
                found += [
                    _run(root, LARGE, seed, name, (one,), scale) for name, one in UPSAMPLERS.items() if first
                ]  # fmt: skip
            elif target in ("mask", "sketch"):
                counts = COUNTS if first and scale.most_steps is None else (COUNT,)
                found += [method(root, target, name, n, seed, scale) for n in counts for name in METHODS]
                found += [method(root, target, ALONE, COUNT, seed, scale)] if first and target == "mask" else []
            elif first:
                found += [method(root, target, name, COUNT, seed, scale) for name in SHIFTED]
    return found

"""What is compared of cascades on drawn faces, 16 -> 32 -> 64 px, by which commands, and what that costs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from .plan import FEATURES, FULL, START, TRAIN, Method, Run, Scale, Task
from .sets import Faces

NAME = "cascades"
SOURCE_SEED = 0  # of the heads that base, stages and the one model are trained on
DRAWN_AT, CURVE = {32: 150, 64: 100}, (1, 75, 150, 300, 500)
"""Steps s of noise: of each stage when the cascade draws; those that the first stage is tried with."""
METRICS = ("frechet", "precision_recall", "intra_lpips", "near_copies")
EVALUATION = {16: 0.005, 32: 0.009, 64: 0.024}
"""Seconds of one core that an evaluation of the network of each size takes, of an image."""
BASE_STEPS = 2  # times those of the last stage: small images cost little


class Cascades(Faces):
    """The drawn faces, and ten with sunglasses."""

    name = NAME
    targets = ("faces", "sunglasses")
    sources: ClassVar = {}
    judged = False

    def shots(self, root: Path, target: str, seed: int) -> list[str]:
        """Ten heads with sunglasses, none of them in the source; of faces all."""
        if target == "sunglasses":
            return super().shots(root, target, seed)
        return [*self.source_data(), "--data.seed", str(SOURCE_SEED)]


CASCADES = Cascades()


@dataclass(frozen=True)
class Training:
    """A model of one size.

    Args:
        name: Of the command.
        recipe: That it runs.
        size: Of its images, in pixels.
        steps: Of training.
        batch: Images a step.
        seconds: Of one core that an image in a step takes.
        options: What the recipe is changed by.
    """

    name: str
    recipe: str
    size: int
    steps: int
    batch: int
    seconds: float
    options: tuple[str, ...] = ()

    @property
    def cost(self) -> float:
        """Seconds of one core."""
        return self.steps * self.batch * self.seconds


PLAIN = ("--model.augmentation", "null")
BASE = Training("train_16", "configs/ddpm/faces16_source.yaml", 16, 1200, 16, 0.016)
STAGES = (
    Training("train_32", "configs/super_resolution/faces32.yaml", 32, 900, 16, 0.036),
    Training("train_64", "configs/super_resolution/faces64.yaml", 64, 600, 8, 0.085),
)
PLAIN_STAGES = tuple(replace(one, options=PLAIN) for one in STAGES)
FEW = (
    Training("train_16", "configs/ddpm_pa/faces16_sunglasses.yaml", 16, 200, 10, 0.024),
    Training("train_32", "configs/super_resolution/faces32_sunglasses.yaml", 32, 200, 10, 0.036),
    Training("train_64", "configs/super_resolution/faces64_sunglasses.yaml", 64, 200, 10, 0.085),
)


def as_long(name: str, recipe: str, batch: int, kind: str, others: Sequence[Training]) -> Training:
    """One model at 64 px, for as many steps as take the time of the others together."""
    steps = round(sum(one.cost for one in others) / (batch * TRAIN[kind]))
    return Training(name, recipe, 64, steps, batch, TRAIN[kind])


ONE = as_long("train", "configs/ddpm/faces64_source.yaml", 16, "DDPM", (BASE, *STAGES))
FEW_ONE = as_long("train", "configs/ddpm_pa/faces64_sunglasses.yaml", 10, "DDPMPA", FEW)

PARTS: dict[str, tuple[Training, ...]] = {
    "base": (BASE,),
    "cascade": STAGES,
    "cascade, no augmentation": PLAIN_STAGES,
    "one model": (ONE,),
    "few-shot cascade": FEW,
    "few-shot one model": (FEW_ONE,),
}
"""What is trained for each, after what it needs."""
NEEDS = {
    "cascade": "base", "cascade, no augmentation": "base", "few-shot cascade": "cascade",
    "few-shot one model": "one model",
}  # fmt: skip


@dataclass(frozen=True)
class CascadeRun(Run):
    """A part of the comparison with a seed: what it trains, then what is measured of it."""

    @property
    def parts(self) -> tuple[Training, ...]:
        """What it trains."""
        return PARTS[self.name]

    @property
    def needs(self) -> Path | None:
        """The last checkpoint of what it is built on."""
        if self.name not in NEEDS:
            return None
        before = self._of(NEEDS[self.name])
        return before.checkpoint(before.parts[-1])

    @property
    def measured(self) -> dict[str, str]:
        """Folder of each measurement, by what the table calls it."""
        if self.name == "base":
            return {}
        found = {self.name: "last"}
        if self.name == "cascade":
            found["cascade, truncated"] = "truncated"
            found |= {f"{kind}, s = {s}": f"{kind}_{s}" for s in CURVE for kind in ("generated", "true")}
        return found

    def group_of(self, name: str) -> str:
        """``curve`` for the values of s, ``methods`` for what is compared."""
        return "curve" if ", s = " in name else "methods"

    def tasks(self) -> list[Task]:
        """What it takes, in order."""
        tasks = [self._train(part) for part in self.parts]
        for name, where in self.measured.items():
            kind, _, s = where.partition("_")
            if self.group_of(name) == "curve":
                tasks.append(self._enlarged(where, int(s)) if kind == "true" else self._drawn(where, 32, s=int(s)))
            elif "cascade" in name:
                tasks.append(self._drawn(where, 64, truncated=where == "truncated"))
            else:
                what = ["--ckpt_path", str(self.checkpoint(self.parts[0])), *self._last_sampler]
                tasks.append(self._measure(where, what, 64, self.scale.sampler_steps * EVALUATION[64]))
        return tasks

    def checkpoint(self, part: Training) -> Path:
        """The last one of a training of this run."""
        return self.folder / part.name / "checkpoints" / f"step={self._steps(part):08d}.ckpt"

    def _of(self, name: str) -> "CascadeRun":
        """Another part with the same seed."""
        return part_of(self.root, name, self.seed, self.scale)

    def _steps(self, part: Training) -> int:
        return min(part.steps, self.scale.most_steps or part.steps)

    def _train(self, part: Training) -> Task:
        argv, steps = ["fit", "--config", part.recipe, *part.options], self._steps(part)
        if self.target == "sunglasses":
            argv += ["--model.init_from", str(self._source(part))]
        argv += self.of.shots(self.root, self.target, self.seed)
        argv += [
            "--data.image_size",
            str(part.size),
            "--data.batch_size",
            str(part.batch),
            "--trainer.max_steps",
            str(steps),
        ]
        argv += ["--checkpoint.every_n_steps", str(max(1, steps // 4)), "--grid.every_n_steps", str(steps)]
        argv += ["--trainer.limit_val_batches", "0", "--seed_everything", str(self.seed)]
        argv += ["--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", str(self.folder / part.name)]
        done = self.checkpoint(part).relative_to(self.folder)
        cost = START + steps * part.batch * part.seconds
        return Task(part.name, [*argv, "--ckpt_path", "last"], str(done), cost)

    def _source(self, part: Training) -> Path:
        """What a few-shot model starts from."""
        before = self._of(NEEDS[self.name])
        if part.size == BASE.size:
            before = before._of("base")
        return before.checkpoint(next(one for one in before.parts if one.size == part.size))

    @property
    def _last_sampler(self) -> list[str]:
        return ["--model.sampler.method", "dpm_solver", "--model.sampler.steps", str(self.scale.sampler_steps)]

    def _drawn(self, where: str, size: int, s: int | None = None, truncated: bool = False) -> Task:
        """Draw by base and stages up to a size; s is of the first stage."""
        base = self if self.name == "few-shot cascade" else self._of("base")
        early = f"{{method: ddim, steps: {BASE_STEPS * self.scale.sampler_steps}}}"  # a chain that truncation can stop
        last = f"{{method: dpm_solver, steps: {self.scale.sampler_steps}}}"
        stages, cost = [], BASE_STEPS * EVALUATION[16]
        for part in (part for part in self.parts if BASE.size < part.size <= size):
            words = [f"checkpoint: {self.checkpoint(part)}", f"sampler: {last if part.size == 64 else early}"]
            if part not in PLAIN_STAGES:
                words.append(f"augmentation_s: {DRAWN_AT[part.size] if s is None else s}")
                words += ["truncated: true"] if truncated else []
            stages.append("{" + ", ".join(words) + "}")
            cost += (1 if part.size == 64 else BASE_STEPS) * EVALUATION[part.size]
        what = [
            "--model",
            "Cascade",
            "--model.base",
            str(base.checkpoint(base.parts[0])),
            "--model.base_sampler",
            early,
        ]
        what += ["--model.stages", f"[{', '.join(stages)}]"]
        return self._measure(where, what, size, self.scale.sampler_steps * cost)

    def _enlarged(self, where: str, s: int) -> Task:
        """The first stage from true small images, which nobody was trained on."""
        what = ["--ckpt_path", str(self.checkpoint(STAGES[0])), "--model.augmentation_s", str(s)]
        what += ["--model.sampler.method", "ddim", "--model.sampler.steps", str(BASE_STEPS * self.scale.sampler_steps)]
        cost = BASE_STEPS * self.scale.sampler_steps * EVALUATION[32]
        return self._measure(where, what, 32, cost)

    def _measure(self, where: str, what: list[str], size: int, seconds_of_sample: float) -> Task:
        """``size`` in pixels: of the images that samples are compared with."""
        scale, folder = self.scale, self.folder / where
        metrics = METRICS if self.target == "sunglasses" else METRICS[:2]
        argv = ["test", *what, *self.of.truth(self.root, self.target, self.seed), "--data.image_size", str(size)]
        if self.target == "faces":
            argv += ["--data.num_val", str(scale.samples)]
        argv += ["--evaluate.metrics", f"[{', '.join(metrics)}]", "--evaluate.features", scale.features]
        argv += ["--evaluate.samples", str(scale.samples), "--evaluate.save", str(folder / "images")]
        argv += ["--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", str(folder)]
        seconds = START + (scale.samples + self.of.references(self.seed)) * FEATURES + scale.samples * seconds_of_sample
        return Task(where, argv, f"{where}/evaluations/*.json", seconds)


def part_of(root: Path, name: str, seed: int, scale: Scale) -> CascadeRun:
    """A part of the comparison."""
    target, parts = "sunglasses" if name.startswith("few-shot") else "faces", PARTS[name]
    method = Method(name, "Cascade", parts[-1].recipe, None, parts[-1].steps, parts[-1].batch)
    return CascadeRun(root, CASCADES, target, seed, method, scale)


def runs(root: Path, scale: Scale = FULL) -> list[CascadeRun]:
    """All of them, first those with the first seed."""
    return [part_of(root, name, seed, scale) for seed in scale.seeds for name in PARTS]

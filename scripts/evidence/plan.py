"""Which methods adapt which source to which ten images, by which commands, and what that costs."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .sets import SETS, SIZE, ImageSet

SEEDS = (1, 2, 3)
METRICS = (
    "frechet", "kernel", "precision_recall", "density_coverage", "vendi", "intra_lpips", "nearest_lpips",
    "pairwise_lpips", "authenticity", "data_copying", "near_copies", "nearness",
)  # fmt: skip
"""Those of images: ways between latents, which GANs alone have, would cost as much as all of these."""
RULE = "nearness_gap"
"""The value by which the best checkpoint is kept."""

# Seconds of one core where two processes with a thread each share two cores, at 64 px.
TRAIN = {"DDPM": 0.11, "DDPMPA": 0.16, "StyleGAN2": 0.11, "CDC": 0.17, "MixDL": 0.18}  # of an image in a training step
STEP_OF_SAMPLER, LATENT = 0.03, 0.02  # of an image: one step of a diffusion model's sampler, or a GAN's image
FEATURES, DISTANCES = 0.025, 0.035  # of an image: by the feature network, and its maps for distances of images
START = 12.0  # of a command


@dataclass(frozen=True)
class Scale:
    """How much is computed.

    Args:
        samples: That are measured of each model.
        watched: Samples of each evaluation during training.
        sampler_steps: Of the diffusion models.
        features: Of the metrics.
        seeds: Of the shots and of training.
        most_steps: Of each training; none: what the method has.
    """

    samples: int = 200
    watched: int = 50
    sampler_steps: int = 10
    features: str = "efficientnet_lite0"
    seeds: tuple[int, ...] = SEEDS
    most_steps: int | None = None


FULL = Scale()
TOY = Scale(samples=24, watched=24, sampler_steps=2, features="random", seeds=(1,), most_steps=4)


@dataclass(frozen=True)
class Method:
    """What is compared.

    Args:
        name: As the table calls it.
        kind: Class of the method.
        recipe: That it runs.
        source: ``ddpm`` or ``stylegan2``, the network it starts from; none: from scratch.
        steps: Of training.
        batch: Images a step.
        options: What the recipe is changed by.
        watch: Evaluations during training, by which the best checkpoint is kept; it is measured as "NAME, stopped".
        seeds: How many of the seeds it is run with.
        group: ``methods``, or the sweep it belongs to.
    """

    name: str
    kind: str
    recipe: str
    source: str | None
    steps: int
    batch: int
    options: tuple[str, ...] = ()
    watch: int = 0
    seeds: int = len(SEEDS)
    group: str = "methods"


def pairwise(weight: float) -> tuple[str, ...]:
    """Options of DDPM-PA: the weight of both pairwise losses (lambda 2 and 3 of the paper)."""
    return ("--model.pairwise.image", f"{weight:g}", "--model.pairwise.high_frequency", f"{weight:g}")


DECAY = ("--ema.decay", "0.99")
NETWORK = (
    "--model.stylegan2.image_size", str(SIZE), "--model.stylegan2.channel_base", "2048",
    "--model.stylegan2.max_channels", "128", "--model.stylegan2.latent_dim", "128",
)  # fmt: skip
FINE_TUNED = Method(
    "fine-tuned", "DDPM", "configs/ddpm/faces64_finetune.yaml", "ddpm", 300, 10, DECAY, watch=10
)  # fmt: skip
DDPM_PA = Method(
    "DDPM-PA", "DDPMPA", "configs/ddpm_pa/faces64_sunglasses.yaml", "ddpm", 300, 10, (*DECAY, *pairwise(0.1))
)
METHODS = (
    Method("from scratch", "DDPM", "configs/ddpm/faces64_source.yaml", None, 300, 10, DECAY),
    FINE_TUNED,
    DDPM_PA,
    Method("TGAN", "StyleGAN2", "configs/stylegan2/faces64_tgan_10.yaml", "stylegan2", 400, 4),
    Method("CDC", "CDC", "configs/cdc/faces64_sunglasses.yaml", "stylegan2", 400, 4),
    Method("MixDL", "MixDL", "configs/mixdl/faces32_10.yaml", None, 2000, 4, NETWORK, seeds=1),
)
SOURCE = Method("source of the GANs", "StyleGAN2", "configs/stylegan2/faces64_source.yaml", None, 6000, 8)

LONGER = replace(DDPM_PA, name="DDPM-PA 0.667, 3 x steps", steps=900, options=(*DECAY, *pairwise(0.667)))
SWEEP: dict[str, tuple[Method, ...]] = {
    "openpeeps": (
        replace(DDPM_PA, name="DDPM-PA 0", options=(*DECAY, *pairwise(0))),
        replace(DDPM_PA, name="DDPM-PA 0.667", options=(*DECAY, *pairwise(0.667))),
        LONGER,
        replace(FINE_TUNED, name="fine-tuned, 3 x steps", steps=900, watch=0),
    ),
    "lorelei": (replace(DDPM_PA, name="DDPM-PA 0.667", options=(*DECAY, *pairwise(0.667))),),
    "sunglasses": (replace(DDPM_PA, name="DDPM-PA 0.667", options=(*DECAY, *pairwise(0.667))),),
}
"""By target, with the first seed: whether the weight of the pairwise losses or the steps decide the order."""

OMITTED = (
    "StyleGAN2 trained on the ten images from scratch, plain, with DiffAugment and with ADA, was not run at 64 px: "
    "40 minutes of one core each by estimate.",
    "MixDL, which starts from nothing too, was run with the first seed alone: by estimate "
    "24 minutes of one core a run.",
)


@dataclass(frozen=True)
class Task:
    """A command.

    Args:
        argv: What follows ``tenshot``.
        done: What is there when it is finished.
        seconds: What it is thought to take, of one core.
    """

    name: str
    argv: list[str]
    done: str
    seconds: float

    def finished(self, folder: Path) -> bool:
        """Whether it need not run any more."""
        return any(folder.glob(self.done))

    @property
    def line(self) -> str:
        """As it is typed."""
        return shlex.join(["tenshot", *self.argv])


@dataclass(frozen=True)
class Run:
    """A method on a target with a seed; without a method: the true images; without a target: a source."""

    root: Path
    of: ImageSet
    target: str
    seed: int
    method: Method | None
    scale: Scale = FULL

    @property
    def name(self) -> str:
        """As the table calls it."""
        return self.method.name if self.method else "true images"

    @property
    def title(self) -> str:
        """As ``--only`` and the terminal call it."""
        return f"{self.name}/{self.seed}/{self.target}"

    @property
    def folder(self) -> Path:
        """Where it lives."""
        words = self.name.replace(",", "").replace(" ", "_")
        return self.root / self.of.name / self.target / words / f"seed{self.seed}"

    @property
    def measured(self) -> dict[str, str]:
        """Folder of each measurement, by what the table calls it."""
        if self.method is None:
            return {self.name: "last"}
        if self.method is SOURCE:
            return {}
        return {self.name: "last"} | ({f"{self.name}, stopped": "best"} if self.method.watch else {})

    def group_of(self, name: str) -> str:
        """The table that a measurement belongs to."""
        return self.method.group if self.method else "methods"

    def tasks(self) -> list[Task]:
        """What it takes, in order."""
        if self.method is None:
            return [self._test("last", self.of.true_images(self.root, self.target, self.seed), 0.0, "*")]
        steps = min(self.method.steps, self.scale.most_steps or self.method.steps)
        checkpoint = f"train/checkpoints/step={steps:08d}.ckpt"
        tasks = [Task("train", self._fit(steps), checkpoint, self._seconds_of_training(steps))]
        for where in self.measured.values():
            file = checkpoint if where == "last" else "train/checkpoints/best.ckpt"
            data = self.of.truth(self.root, self.target, self.seed)
            result = f"step={steps:08d}*" if where == "last" else "*"
            what = ["--ckpt_path", str(self.folder / file), *data]
            tasks.append(self._test(where, what, self._seconds_of_sample(), result))
        return tasks

    @property
    def needs(self) -> Path | None:
        """The checkpoint of a source that is trained here, without which it cannot begin."""
        if self.method is None or self.method.source is None or self.of.sources[self.method.source]:
            return None
        return source_of(self).folder / source_of(self).tasks()[0].done

    def _fit(self, steps: int) -> list[str]:
        method = self.method
        assert method is not None
        argv = ["fit", "--config", method.recipe]
        if method.source is not None:
            argv += ["--model.init_from", self.of.sources[method.source] or str(self.needs)]
        shots = self.of.source_data() if method is SOURCE else self.of.shots(self.root, self.target, self.seed)
        argv += [*shots, "--data.image_size", str(SIZE), "--data.batch_size", str(method.batch), *method.options]
        if method.kind in ("DDPM", "DDPMPA"):
            argv += ["--model.sampler.steps", str(self.scale.sampler_steps)]
        if method.watch:
            argv += [
                "--evaluate.every_n_steps", str(max(1, steps // method.watch)), "--evaluate.fit_samples",
                str(self.scale.watched), "--evaluate.metrics", "[nearness]", "--evaluate.features", self.scale.features,
                "--evaluate.keep_best", f"{RULE}_{self.scale.features}",
            ]  # fmt: skip
        return [
            *argv, "--trainer.max_steps", str(steps), "--checkpoint.every_n_steps", str(max(1, steps // 4)),
            "--grid.every_n_steps", str(steps), "--seed_everything", str(self.seed), "--trainer.enable_progress_bar",
            "false", "--trainer.default_root_dir", str(self.folder / "train"), "--ckpt_path", "last",
        ]  # fmt: skip

    def _test(self, where: str, what: list[str], seconds_of_sample: float, result: str) -> Task:
        argv = [
            "test", *what, "--evaluate.metrics", f"[{', '.join(METRICS)}]", "--evaluate.features", self.scale.features,
            "--evaluate.samples", str(self.scale.samples), "--trainer.enable_progress_bar", "false",
            "--trainer.default_root_dir", str(self.folder / where),
        ]  # fmt: skip
        if self.method is not None:
            argv += ["--evaluate.save", str(self.folder / where / "images")]
        images = self.scale.samples + self.of.references(self.seed)
        seconds = START + images * FEATURES + self.scale.samples * (DISTANCES + seconds_of_sample)
        return Task(where, argv, f"{where}/evaluations/{result}.json", seconds)

    def _seconds_of_sample(self) -> float:
        assert self.method is not None
        return self.scale.sampler_steps * STEP_OF_SAMPLER if self.method.kind in ("DDPM", "DDPMPA") else LATENT

    def _seconds_of_training(self, steps: int) -> float:
        method = self.method
        assert method is not None
        watched = method.watch * self.scale.watched * (self._seconds_of_sample() + FEATURES)
        return START + steps * method.batch * TRAIN[method.kind] + watched


def source_of(run: Run) -> Run:
    """The source of the GANs of its set, where none comes with the package."""
    return replace(run, target="source", seed=0, method=SOURCE)


def runs(root: Path, sets: Sequence[str] = tuple(SETS), scale: Scale = FULL) -> list[Run]:
    """All runs of these sets in the order in which they are begun: sources, then all methods with one seed, …"""
    found = [
        source_of(Run(root, SETS[name], "", 0, SOURCE, scale))
        for name in sets if None in SETS[name].sources.values()
    ]  # fmt: skip
    for number, seed in enumerate(scale.seeds):
        for of in (SETS[name] for name in sets):
            for target in of.targets:
                own = [method for method in METHODS if number < method.seeds]
                own += [replace(swept, group="sweep") for swept in SWEEP.get(target, ())] if number == 0 else []
                found += [Run(root, of, target, seed, method, scale) for method in (None, *own)]
    return found


def hours(wanted: Sequence[Run]) -> float:
    """Of one core, for what is not finished yet."""
    return sum(task.seconds for run in wanted for task in run.tasks() if not task.finished(run.folder)) / 3600

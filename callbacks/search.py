"""One trained model drawn in several ways, each measured with the same seeds: what ``tenshot search`` does."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from tenshot.callbacks.best_checkpoint import more_is_better
from tenshot.callbacks.drawn_by import drawn_by
from tenshot.callbacks.ema import averaged
from tenshot.callbacks.evaluate import EvaluateGenerator
from tenshot.callbacks.evaluation_result import described
from tenshot.callbacks.search_kept import SharedStages
from tenshot.callbacks.search_record import Records, digest_of, in_order, summary_folder, write_summary
from tenshot.distributed.first_rank import of_first_rank
from tenshot.errors import check_range
from tenshot.lightning_modules import AdjustableGenerator, Cascade
from tenshot.metrics import PathMetric, PredictorMetric
from tenshot.metrics.base import TRUE_CONDITIONS

__all__ = ["Search", "Way", "within"]

SEARCHED = ("seed", "sampler", "truncation", "guidance", "classifier_free", "drawn_s", "start_step", "noise_left")
"""Of what samples depend on, also of the stages of a cascade, all that may differ within a search; the options of
drawing say the same in full."""


@dataclass(frozen=True)
class Way:
    """A way of drawing.

    Args:
        options: The options that are searched over, dotted, and their values.
        drawing: All options of drawing and their values.
        method: The method as these options configure it, its networks not built.
        lists: Of options of an element of a list, the list, whole: a configuration replaces no less.
    """

    options: dict[str, Any]
    drawing: dict[str, Any]
    method: AdjustableGenerator
    lists: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """``sampler.steps=10,guidance.scale=2``."""
        return ",".join(f"{name.removeprefix('model.')}={value}" for name, value in self.options.items())


class Search(Callback):
    """Draw in several ways with the same seeds, measure each as tenshot test does, and keep every result.

    Args:
        over: Options of drawing with the list of values of each, such as ``{model.sampler.steps: [10, 20, 50]}``, or
            one by one, ``--search.over.model.sampler.steps "[10, 20, 50]"``; of several options all combinations.
        by: The value to choose by, a name of the table of tenshot test, such as ``fid``. Without --evaluate.metrics
            only its metric is computed.
        seeds: How many sets of samples to draw in each way, of the seeds --evaluate.seed and up; several tell how far
            the values scatter.
    """

    def __init__(self, over: dict[str, Any], by: str, seeds: int = 1) -> None:
        check_range("--search.seeds", seeds, 1)
        self.over, self.by, self.count = over, by, seeds
        self.ways: Sequence[Way] = ()
        """Found by the command line, which knows the options of methods."""
        self.evaluation: EvaluateGenerator
        """What measures; the trainer does not have it."""
        self.folder: Path
        """Of the summary, once it is written."""
        self._more_is_better = False

    @property
    def seeds(self) -> range:
        """Of the sets of samples."""
        return range(self.evaluation.seed, self.evaluation.seed + self.count)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the images to compare with and the weights of the metrics, before anything is drawn.

        Raises:
            InputError: Something that the metric needs is not there, or none computes the value to choose by.
        """
        evaluation = self.evaluation
        evaluation.setup(trainer, pl_module, stage)
        self._more_is_better = more_is_better("--search.by", self.by, evaluation.shown.better, evaluation.used.features)
        if evaluation.requests.metrics is None:
            metrics, by = evaluation.shown.metrics, self.by.removesuffix(TRUE_CONDITIONS)
            evaluation.shown.metrics = {name: one for name, one in metrics.items() if by in one.better()}

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of the images."""
        self.evaluation.teardown(trainer, pl_module, stage)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note its step."""
        self.evaluation.on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure what was not measured before, seed by seed, and write the summary.

        Raises:
            InputError: The networks cannot be drawn from in one of the ways, or the folder cannot be written.
        """
        first, records = self.evaluation.seed, Records(Path(trainer.default_root_dir) / "searches")
        measurements = self._measurements(trainer, pl_module)
        missing = self._missing(trainer, records, measurements)
        rank_zero_info(
            f"search: {len(self.ways)} ways of drawing x {self.count} seeds, {len(measurements) - len(missing)} of "
            f"them measured before"
        )
        save, shared = self.evaluation.save, SharedStages(records.folder, measurements.values())
        for done, (seed, number) in enumerate(missing, start=1):
            way = self.ways[number]
            cast(AdjustableGenerator, pl_module).draw_as(way.method)
            self.evaluation.seed = seed
            self.evaluation.save = save and str(Path(save) / f"{way.title},seed={seed}")
            if isinstance(pl_module, Cascade):
                pl_module.kept = shared.of(trainer, measurements[seed, number])
            result = self.evaluation.measure(trainer, pl_module, self.evaluation.samples, self.evaluation.paths)
            if trainer.is_global_zero:
                records.keep(measurements[seed, number], result)
            value = result["values"][self.by]
            told = "undefined" if value is None else f"{value:.4g}"
            rank_zero_info(f"{way.title}, seed {seed}: {self.by} {told} ({done} of {len(missing)})")
        self.evaluation.seed, self.evaluation.save = first, save
        if trainer.is_global_zero:
            self._summarise(records, measurements)

    def _measurements(self, trainer: Trainer, pl_module: LightningModule) -> dict[tuple[int, int], dict[str, Any]]:
        """By seed and number of the way, all that its measurement depends on. Tries every way before one is drawn."""
        evaluation = self.evaluation
        evaluation.conditions.of(pl_module)
        assert evaluation.data is not None
        metrics, asked = evaluation.shown.metrics, evaluation.used
        common = {
            "samples": evaluation.samples,
            "paths": evaluation.paths if any(isinstance(metric, PathMetric) for metric in metrics.values()) else None,
            "metrics": {name: [list(metric.names()), _networks(metric)] for name, metric in metrics.items()},
            "asked": [asked.lpips_resize, asked.path_length, asked.intra_lpips],
            "data": described(evaluation.data),
            "real": {name: source and [str(source), len(source)] for name, source in evaluation.shown.real.items()},
        }
        if evaluation.true_conditions:
            common["true_conditions"] = True
        plain = json.loads(json.dumps(common))  # as a file gives it back
        found = {}
        with averaged(trainer, pl_module):
            for number, way in enumerate(self.ways):
                cast(AdjustableGenerator, pl_module).draw_as(way.method)
                by = drawn_by(trainer, pl_module, evaluation.seed, 0, evaluation.conditions)
                for seed in self.seeds:
                    depends_on = by.depends_on | {"seed": seed}
                    found[seed, number] = {"drawn_by": depends_on, "drawing": way.drawing, **plain}
        return dict(sorted(found.items()))

    def _missing(
        self, trainer: Trainer, records: Records, measurements: Mapping[tuple[int, int], Mapping[str, Any]]
    ) -> list[tuple[int, int]]:
        """Those not measured yet; on all ranks, of which the first looks."""

        def found() -> list[tuple[int, int]]:
            records.claim()
            return [place for place, one in measurements.items() if records.find(digest_of(one)) is None]

        return of_first_rank(trainer, found)

    def _summarise(self, records: Records, measurements: Mapping[tuple[int, int], Mapping[str, Any]]) -> None:
        """Write what was found, with the rows of an earlier search of the same, where they have all the seeds."""
        digests: dict[int, dict[int, str]] = {number: {} for number in range(len(self.ways))}
        for (seed, number), one in measurements.items():
            digests[number][seed] = digest_of(one)
        measurement = next(iter(measurements.values()))
        over = list(self.ways[0].options)
        drawn = measurement["drawn_by"].items()
        common = {name: value for name, value in drawn if name.rsplit(".", 1)[-1] not in SEARCHED}
        fixed = {name: value for name, value in measurement["drawing"].items() if not within(name, over)}
        rest = {name: value for name, value in measurement.items() if name not in ("drawn_by", "drawing")}
        alike = {"by": self.by, "over": over, "seed": self.evaluation.seed, "fixed": fixed}
        identity = alike | common | rest
        name = "+".join(option.removeprefix("model.") for option in over)
        self.folder, earlier = summary_folder(records.folder, name, identity)
        rows: list[dict[str, Any]] = [
            {"options": way.options, "lists": way.lists, "records": digests[n]} for n, way in enumerate(self.ways)
        ]
        for row in earlier:
            known = {int(seed): digest for seed, digest in row["records"].items()}
            if row["options"] not in [each["options"] for each in rows] and set(known) >= set(self.seeds):
                rows.append(row | {"records": {seed: known[seed] for seed in self.seeds}})
        filled = []
        for row in rows:
            results = {seed: records.find(digest) for seed, digest in row["records"].items()}
            if None not in results.values():
                filled.append(row | {"values": {seed: result["values"] for seed, result in results.items() if result}})
        last = records.find(rows[0]["records"][self.seeds[0]]) or {}
        about = {key: last[key] for key in ("method", "checkpoint", "step", "weights", "samples", "code", "date")}
        seeds = {"seeds": list(self.seeds), "more_is_better": self._more_is_better}
        write_summary(self.folder, {"by": self.by, **seeds, **about, "rows": in_order(filled), "identity": identity})


def _networks(metric: Any) -> dict[str, Any] | None:
    """Which network a metric looks with, and its weights."""
    if isinstance(metric, PredictorMetric):
        return metric.settings()
    features = getattr(metric, "features", None)
    return None if features is None else features.settings()


def within(name: str, options: Sequence[str]) -> bool:
    """Whether an option is one of these, or part of one."""
    return any(name == option or name.startswith(f"{option}.") for option in options)

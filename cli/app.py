"""``tenshot fit | validate | test | predict | search | paint``: Lightning's command line, our classes and defaults."""

import signal
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.model_helpers import is_overridden

from tenshot.callbacks import (
    EMA,
    TF32,
    EvaluateGenerator,
    ImageWriter,
    InterpolationStrip,
    NanGuard,
    Preempted,
    Preemption,
    ResumeLoggedMetrics,
    Resumption,
    RisingLoss,
    SampleGrid,
    StepCheckpoint,
    StepProgress,
    StepSeed,
    Threads,
    Throughput,
)
from tenshot.callbacks.data_record import DataRecord, go_on_with_data_of
from tenshot.callbacks.image_writer import MissingSamples
from tenshot.callbacks.search import Search
from tenshot.checkpoints.shipped import shipped_file
from tenshot.cli.argv import values, with_config
from tenshot.cli.image_size import condition_size_of, image_size_of
from tenshot.cli.launch import NO_MEETING, Slurm, check_launch, is_first_rank, no_meeting
from tenshot.cli.out_of_memory import is_out_of_memory, out_of_memory
from tenshot.cli.paint import add_paint_options, painting, prepare_paint
from tenshot.cli.parser import Parser, parsed
from tenshot.cli.quiet import quiet
from tenshot.cli.renamed_options import without_former_options
from tenshot.cli.run_folder import for_evaluation, for_training, is_trained
from tenshot.cli.run_record import RunRecord, dumped
from tenshot.cli.schedule import fit_schedule
from tenshot.cli.search import prepare_search, together
from tenshot.cli.trainer import CommandTrainer
from tenshot.cli.trainer_checks import check_method, check_seed, check_strategy, check_trainer
from tenshot.cli.weights import describe_by, from_weights
from tenshot.cli.yaml_files import check_yaml
from tenshot.datamodules import Samples
from tenshot.errors import InputError
from tenshot.reports.search_files import write_search
from tenshot.run import AtomicCheckpointIO, RunLock, RunLog, RunWandb
from tenshot.run.launched import end_with_launcher, none_left_behind

__all__ = ["App", "run"]


class App(LightningCLI):
    """The commands that run a Trainer.

    Args:
        held: What is to be let go when the command ends, however it ends.
        argv: The command line. Weights to start from that it names are drawn from without a checkpoint.
        arguments: Lightning's.
    """

    def __init__(self, held: ExitStack, argv: list[str], **arguments: Any) -> None:
        self.held, self.argv = held, argv
        self.folder_given = bool(values(argv, "--trainer.default_root_dir"))
        super().__init__(args=argv, **arguments)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The one that was asked for: parsers of the others would only take time."""
        known = LightningCLI.subcommands()
        return {self.argv[0]: known.get(self.argv[0], known["test"]) | {"weights_only"}}

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """By the command's own parser: the one above it, which Lightning takes, would parse all that again."""
        self.config = parsed(self._parser(args[0]), *args)

    def _set_seed(self) -> None:
        """Lightning's, but a seed that is none is told in one line."""
        check_seed(self.config[self.subcommand].seed_everything)
        super()._set_seed()

    def add_arguments_to_parser(self, parser: Any) -> None:
        """Callbacks that are always on, each a group of options."""
        groups = {"ema": EMA, "checkpoint": StepCheckpoint, "grid": SampleGrid, "strip": InterpolationStrip}
        groups |= {"images": ImageWriter, "evaluate": EvaluateGenerator}
        for name, callback in (groups | ({"search": Search} if self.argv[0] == "search" else {})).items():
            parser.add_lightning_class_args(callback, name)
        if self.argv[0] == "paint":
            add_paint_options(parser)
        tf32 = "Compute float32 products of training steps on GPUs in TF32; drawing and metrics never do."
        parser.add_argument("--tf32", type=bool, default=True, help=tf32)

    def _parse_ckpt_path(self) -> None:
        """Not Lightning's: hyper-parameters of a checkpoint never override the command line here."""

    def _dump_config(self) -> None:
        """Lightning's, for the hyper-parameters of methods that save them; dumped once where the record is the same."""
        if hasattr(self, "config_dump"):
            return
        config = self.config[self.subcommand]
        if self.subcommand == "fit" and config == self.asked_for:
            self.config_dump = self.record.settings
        else:
            self.config_dump = yaml.safe_load(dumped(self._parser(self.subcommand), config))

    def before_instantiate_classes(self) -> None:
        """Find the run's folder and the checkpoint.

        Raises:
            InputError: --trainer asks for what no Trainer can do, or there is no such folder or checkpoint.
        """
        config = self.config[self.subcommand]
        check_trainer(config.trainer)
        folder = Path(config.trainer.default_root_dir or f"runs/{config.model.class_path.rsplit('.', 1)[-1].lower()}")
        asked, checkpoint = config.get("ckpt_path"), None
        trained = is_trained(str(self.subcommand), config.model.class_path.rsplit(".", 1)[-1], asked)
        if self.subcommand == "fit":
            folder, checkpoint = for_training(asked, folder, self.folder_given)
        elif trained:
            weights = config.model.init_args.get("init_from") if values(self.argv, "--model.init_from") else None
            told = values(self.argv, "--model.init_weights") or "init_weights" not in config.model.init_args
            if asked is None and weights is not None and not told:
                config.model.init_args.init_weights = config.ema.evaluate
            if asked is None and weights is not None and config.trainer.default_root_dir is None:
                folder = Path("runs") / (shipped_file(weights) or Path(weights)).stem
            folder, checkpoint = for_evaluation(str(self.subcommand), asked, folder, self.folder_given, weights)
        if self.subcommand == "fit" and is_first_rank():
            self.held.enter_context(RunLock(folder))
        config.trainer.default_root_dir = str(folder)
        config.ckpt_path = None
        self.asked_for = config.clone()
        config.ckpt_path = str(checkpoint) if checkpoint else None
        if checkpoint is not None:
            describe_by(config.model.init_args, checkpoint)
        for name, size_of in (("image_size", image_size_of), ("condition_size", condition_size_of)):
            if config.data is not None and config.data.init_args.get(name, 0) is None:
                config.data.init_args[name] = self.asked_for.data.init_args[name] = size_of(config.model)
        if self.subcommand == "fit":
            fit_schedule(config.model.init_args, config.trainer.max_steps)
            self.record = RunRecord(self._parser("fit"), self.asked_for, checkpoint)

    def instantiate_classes(self) -> None:
        """Lightning's; then the data are those that the checkpoint's run has chosen."""
        super().instantiate_classes()
        config = self.config[self.subcommand]
        go_on_with_data_of(self.datamodule, config.get("ckpt_path"))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add what every run has: seeding by position, watches on loss, signals and speed, whole checkpoints, a log.

        Raises:
            InputError: The machine cannot do what --trainer asks for.
        """
        settings = self.config_init[self.subcommand]["trainer"]
        callbacks = settings.get("callbacks") or []
        callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        plugins = settings.get("plugins") or []
        plugins = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
        named = any(isinstance(plugin, ClusterEnvironment) for plugin in plugins)
        if not (named or TorchElasticEnvironment.detect()) and SLURMEnvironment.detect():
            plugins.append(Slurm())
        kwargs["plugins"] = plugins
        tf32 = TF32(self.config_init[self.subcommand]["tf32"])
        kwargs["callbacks"] = [Threads(), tf32, *callbacks, StepSeed(), NanGuard(), RisingLoss(), Preemption()]
        if self.subcommand == "fit":
            record = [] if settings.get("fast_dev_run") else [self.record]
            own = [*record, Resumption(self.record.compared), Throughput()]
            kwargs["callbacks"] = [*own, *kwargs["callbacks"], ResumeLoggedMetrics(), DataRecord()]
        if settings.get("enable_progress_bar") is not False:
            kwargs["callbacks"].append(StepProgress())
        kwargs["logger"] = self._loggers(settings.get("logger"), settings["default_root_dir"])
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError, TypeError) as error:  # a device that is not there, a wrong name
            raise InputError(f"--trainer: {' '.join(str(error).split())}") from error
        check_launch(trainer)
        self.held.enter_context(none_left_behind(trainer))
        check_strategy(trainer.strategy)
        return trainer

    def _loggers(self, asked: Logger | list[Logger] | bool | None, folder: str) -> list[Logger] | bool:
        """The run's own log, and the loggers asked for."""
        if asked is False or (asked is None and self.subcommand != "fit"):
            return False
        loggers = asked if isinstance(asked, list) else [asked] if isinstance(asked, Logger) else []
        for logger in loggers:
            if isinstance(logger, RunWandb):
                logger.describe(Path(folder), self.config[self.subcommand].as_dict())
        return [RunLog(folder), *loggers] if self.subcommand == "fit" else loggers

    def _run_subcommand(self, subcommand: str) -> None:
        """Lightning's, but a device that is out of memory, or processes that cannot meet, are told in one line.

        Raises:
            InputError: They are, with what to change; or --trainer asks for what the method does not do.
        """
        check_method(self.model, self.config_init[subcommand]["trainer"])
        try:
            super()._run_subcommand(subcommand)
        except NO_MEETING as error:
            raise no_meeting(error) from error
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise InputError(out_of_memory(error, subcommand, self.model)) from error

    def before_fit(self) -> None:
        """Refuse a run without an end.

        Raises:
            InputError: Neither steps nor time are limited.
        """
        settings = self.config_init["fit"]["trainer"]
        if not (settings["max_steps"] > 0 or settings["max_time"] or settings["fast_dev_run"]):
            raise InputError("the run has no end: set --trainer.max_steps")

    def before_validate(self) -> None:
        """Refuse to measure nothing.

        Raises:
            InputError: The method has no validation loss, or there are no validation images.
        """
        if not is_overridden("validation_step", self.model):
            raise InputError(
                f"{type(self.model).__name__} has no validation loss: measure its images with tenshot test"
            )
        if getattr(self.datamodule, "val_source", True) is None:
            raise InputError(
                "there are no validation images: set --data.val_root, --data.val_fraction or --data.num_val"
            )

    def before_test(self) -> None:
        """Draw samples; the data are what they are compared with."""
        asked: EvaluateGenerator = self.config_init["test"]["evaluate"]
        asked.data = self.datamodule
        asked.conditions = replace(asked.conditions.with_classes_of(self.datamodule), data=self.datamodule)
        self.datamodule = Samples(asked.samples, asked.batch_size, asked.seed, conditions=asked.conditions)

    def before_predict(self) -> None:
        """Draw the images that are not there yet."""
        self.datamodule = MissingSamples(self.config_init["predict"]["images"], self.datamodule)

    def before_search(self) -> None:
        """Find the ways of drawing; the data are what the samples are compared with."""
        built, options = self.config_init["search"], self.config["search"].model
        self.datamodule = prepare_search(self.trainer, built, self.datamodule, options, self.model)

    def before_paint(self) -> None:
        """Serve the page; nothing is predicted."""
        self.datamodule = prepare_paint(self.trainer, self.config["paint"], self.datamodule)

    def after_search(self) -> None:
        """Show what was found."""
        if self.trainer.is_global_zero:
            write_search(self.config_init["search"]["search"].folder)


def run(argv: list[str]) -> None:
    """Run one command.

    Args:
        argv: The command and its options. Without --config or --model, a checkpoint of a run brings the configuration
            that the run was started with.
    """
    quiet()
    end_with_launcher()
    argv = with_config(from_weights(without_former_options(together(painting(argv)))))
    check_yaml([*values(argv, "--config", "-c"), *(arg for arg in argv if arg.endswith((".yaml", ".yml")))])
    try:
        with ExitStack() as held:
            App(
                held,
                argv,
                model_class=LightningModule,
                datamodule_class=LightningDataModule,
                trainer_class=CommandTrainer,
                subclass_mode_model=True,
                subclass_mode_data=True,
                auto_configure_optimizers=False,
                save_config_callback=None,
                seed_everything_default=0,
                trainer_defaults={"num_sanity_val_steps": 0},
                parser_class=Parser,
            )
    except Preempted:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # srun sends it to all ranks once the first has ended
        raise

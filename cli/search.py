"""``tenshot search``: which options of drawing suit a trained model, by any value that ``tenshot test`` computes."""

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from itertools import product
from typing import Any, cast

import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from tenshot.callbacks import EvaluateGenerator, InterpolationStrip
from tenshot.callbacks.search import Search, Way, within
from tenshot.cli.parser import Parser
from tenshot.datamodules import ImageDataModule
from tenshot.datamodules.samples import SeedBatches
from tenshot.errors import InputError, did_you_mean
from tenshot.lightning_modules import AdjustableGenerator
from tenshot.reports.run import flat

__all__ = ["prepare_search", "together", "ways_of_drawing"]

OVER = "--search.over."
LATER = ("classifier_free",)
"""Options of drawing that searches done earlier do not record; with them not given such searches go on."""


class NoSamples(LightningDataModule):
    """For a test that has samples of its own."""

    def test_dataloader(self) -> SeedBatches:
        """No batch, though it counts as one: at length 0 Lightning would leave out the hooks around the loop."""
        return SeedBatches(torch.empty(0, dtype=torch.int64), 0, 1, length=1)


def together(argv: list[str]) -> list[str]:
    """The arguments of a command line with ``--search.over.NAME LIST``, given any number of times, as one option.

    Raises:
        InputError: A value is no list.
    """
    over: dict[str, Any] = {}
    kept: list[str] = []
    words = iter(argv)
    for word in words:
        if not word.startswith(OVER):
            kept.append(word)
            continue
        option, equals, value = word.partition("=")
        name = option.removeprefix(OVER)
        over[name] = _values(name, value if equals else next(words, ""))
    return [*kept, "--search.over", json.dumps(over)] if over else kept


def _values(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f'{OVER}{name} {text!r}: not a list in YAML, such as "[10, 20, 50]"') from None


def prepare_search(
    trainer: Trainer,
    built: Mapping[str, Any],
    data: LightningDataModule,
    configured: Namespace,
    method: LightningModule,
) -> LightningDataModule:
    """Tell a search what it draws and what measures, and let nothing else draw.

    Args:
        trainer: With its callbacks.
        built: What the command line made of the options; its ``search`` and ``evaluate`` are among them.
        data: What samples are compared with.
        configured: The options of ``--model``.
        method: What they configure.

    Returns:
        What to test on instead: no samples.

    Raises:
        InputError: An option is no option of drawing of the method, or a value does not fit.
    """
    search: Search = built["search"]
    evaluation: EvaluateGenerator = built["evaluate"]
    search.ways = ways_of_drawing(configured, method, search.over)
    warnings.filterwarnings("ignore", message=".*following callbacks: .*EvaluateGenerator")  # the search has it
    search.evaluation, evaluation.data = evaluation, cast(ImageDataModule, data)
    evaluation.conditions = evaluation.conditions.with_classes_of(evaluation.data)
    others = (EvaluateGenerator, InterpolationStrip)
    trainer.callbacks[:] = [each for each in trainer.callbacks if not isinstance(each, others)]  # type: ignore[attr-defined]
    return NoSamples()


def ways_of_drawing(configured: Namespace, method: LightningModule, over: Mapping[str, Any]) -> list[Way]:
    """Every combination of the values that are searched over, each checked as the command line checks an option.

    Args:
        configured: The options of ``--model``.
        method: What they configure.
        over: Options and their lists of values.

    Raises:
        InputError: One is no option of drawing of the method, or has no list of values.
    """
    drawing = method.drawing if isinstance(method, AdjustableGenerator) else ()
    name = type(method).__name__
    if not drawing:
        raise InputError(f"tenshot search: {name} has no options of drawing to search over")
    flattened = dict(_flattened(over))
    if not flattened:
        raise InputError('--search.over names no option: give for example --search.over.model.sampler.steps "[10, 20]"')
    known = [option for option, _ in flat(_numbered({"model": configured.as_dict()})) if within(option, _full(drawing))]
    for option, values in flattened.items():
        if not within(option, _full(drawing)):
            raise InputError(
                f"--search.over: {option} is no option of how {name} draws{did_you_mean(option, known)}: choose of "
                f"{_told(_full(drawing))}"
            )
        if not isinstance(values, list) or not values:
            raise InputError(f'--search.over.{option} {values!r}: give a list of values, such as "[10, 20, 50]"')
        if len({json.dumps(value) for value in values}) < len(values):
            raise InputError(f"--search.over.{option} {values}: a value is given twice: leave one out")
    parser = Parser()
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    found = []
    for values in product(*flattened.values()):
        options = dict(zip(flattened, values, strict=True))
        settings = configured.as_dict()
        for option, value in options.items():
            _put(settings["init_args"], option.split(".")[1:], value)
        parsed = parser.parse_object({"model": settings})
        given = parsed.as_dict()
        told = {
            option: value
            for option, value in flat(_numbered(given))
            if within(option, _full(drawing)) and not (value is None and option.endswith(LATER))
        }
        lists = {
            option: value
            for option, value in flat(given)
            if isinstance(value, list) and any(name.startswith(f"{option}.") for name in options)
        }
        built = parser.instantiate_classes(parsed).model
        found.append(Way(options, json.loads(json.dumps(told)), built, json.loads(json.dumps(lists))))
    return found


def _full(drawing: tuple[str, ...]) -> list[str]:
    return [f"model.{option}" for option in drawing]


def _told(options: list[str]) -> str:
    """Options in words, of the elements of a list those of each once."""
    numbers = [int(number) for option in options for number in re.findall(r"\.(\d+)\.", option)]
    words = list(dict.fromkeys(re.sub(r"\.\d+\.", ".N.", option) for option in options))
    of_lists = [re.sub(r"(?<=\.N).*", "", word) if ".N." in word else "" for word in words]
    for place in range(1, len(words)):  # of one list the first is told in full
        if of_lists[place] and of_lists[place] == of_lists[place - 1]:
            words[place] = words[place].removeprefix(of_lists[place])
    return ", ".join(words) + (f", with N from 0 to {max(numbers)}" if numbers else "")


def _flattened(over: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """``{"model": {"sampler.steps": [10]}}`` as ``model.sampler.steps``: a YAML file may be written either way.

    An element of a list is ``stages.0``; ``stages[0]``, as errors name it, is the same.
    """
    for name, value in over.items():
        name = re.sub(r"\[(\d+)\]", r".\1", str(name))
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _numbered(value: Any) -> Any:
    """Options with each list of groups as a group of groups, named by their numbers from 0."""
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        value = dict(enumerate(value))
    return {str(name): _numbered(each) for name, each in value.items()} if isinstance(value, dict) else value


def _put(settings: Any, path: list[str], value: Any) -> None:
    """Set a nested option; of a group that is not configured, or a class, its arguments; of a list, an element's."""
    *groups, last = path
    for group in groups:
        in_list = isinstance(settings, list)
        place, given = (int(group), settings[int(group)]) if in_list else (group, settings.get(group))
        settings[place] = asdict(given) if is_dataclass(given) and not isinstance(given, type) else given or {}
        settings = settings[place]
        settings = settings.setdefault("init_args", {}) if "class_path" in settings else settings
    settings[last] = value

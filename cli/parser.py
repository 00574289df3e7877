"""Errors of the command line: one line, with the nearest name that exists."""

import re
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from tenshot.cli.registry import CLASSES, class_options, owners
from tenshot.cli.renamed_options import without_former_settings
from tenshot.errors import did_you_mean, say

__all__ = ["Parser", "explain", "parsed"]


class Parser(LightningArgumentParser):
    """Lightning's parser, but a mistake ends in one line."""

    def add_method_arguments(self, theclass: type, themethod: str, **options: Any) -> list[str]:
        """The arguments of a command; as a group of its own unless there are options of that name."""
        as_group = themethod not in (self.groups or {})
        added: list[str] = super().add_method_arguments(theclass, themethod, as_group=as_group, **options)
        return added

    def parse_string(self, content: str, *arguments: Any, **options: Any) -> Namespace:
        """A configuration; one of an older version may hold options that are gone."""
        return super().parse_string(without_former_settings(content), *arguments, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong, and what was probably meant, and exit with status 2."""
        own = {option.lstrip("-") for option in self._option_string_actions}
        options = set(class_options()) | (own if "config" in own else set())  # parsers of classes know no full names
        say(explain(message, options))
        sys.exit(2)


def parsed(parser: LightningArgumentParser, command: str, *words: str) -> Namespace:
    """The options of a command by its own parser, where the parser above it would have them."""
    vars(parser).pop("parent_parser", None)  # to which it would leave --print_config
    return Namespace({"subcommand": command, command: parser.parse_args(words)})


def explain(message: str, options: Iterable[str]) -> str:
    """One line out of jsonargparse's message.

    Args:
        message: As jsonargparse words it, often a tree of all types that did not fit.
        options: All option names that exist, dotted, without dashes; with ``config`` unless it is a class that misses
            something.
    """
    if unknown := re.search(r"unrecognized arguments: (.*)", message):
        names = re.findall(r"--([\w.+-]+)", unknown[1])
        if not names:
            return f"unexpected argument {unknown[1]!r}"
        given = _whose(names[0], options)
        return f"unknown option --{given or names[0]}{_others(given) if given else _nearest(names[0], options)}"
    if unknown := re.search(r"Option '([\w.]+)' is not accepted|does not accept option '([\w.]+)'", message):
        name = unknown[1] or unknown[2]
        given = _whose(name, options)
        hint = f"{_others(given)}, under init_args in a file" if given else _nearest(name, options)
        return f"unknown option {name!r} in {_key(message) or 'the configuration'}{hint}"
    if missing := re.search(r"arguments are required: (.*)", message):
        names = [_full(name, options) for name in missing[1].split(", ")]
        return f"{' and '.join(names)} must be given, on the command line or in a --config"
    key = _key(message) or "the configuration"
    if choices := re.search(r"Literal\[([^\]]*)\]\. Got value: (.*)", message):
        known = re.findall(r"'([^']*)'", choices[1])
        return f"{key}: {choices[2]!r} is unknown{did_you_mean(choices[2], known)}: choose one of {', '.join(known)}"
    wrong = re.search(r"Expected a dot import path string: (\S+)", message)
    if wrong and wrong[1] == "None":
        holder = f"--config file, or give what holds it: --model.HOLDER '{{\"{key}\": null}}'"
        return f"{key}: null cannot be given to this option alone: write it into a {holder}"
    if wrong and not re.search(r"Expected a <class '(?:float|int)'>", message):
        known = [cls.__name__ for cls in CLASSES.get(key, ())]
        remedy = f": choose one of {', '.join(known)}, or give an import path" if known else ": give its import path"
        return f"{key}: there is no class {wrong[1]!r}{did_you_mean(wrong[1], known)}{remedy}"
    if value := re.search(r"(?:Given|Got) value: (.*)", message):
        kinds = re.findall(r"Expected an? (?!path|dot import)(.*?)(?:\. Got.*)?$", message, re.MULTILINE)
        return f"{key}: {value[1]!r} does not fit: expected {' or '.join(map(_plain, kinds))}"
    return f"{key}: " * ("arser key" in message) + _plain(
        " ".join(re.sub(r'.*[Pp]arser key "[^"]+":', "", message).split())
    )


def _full(name: str, options: Iterable[str]) -> str:
    """``--model``; ``--data.root`` for the ``root`` of a class; a positional argument as it is."""
    if name in options:
        return f"--{name}"
    if "config" in options:
        return name
    return next((f"--{option}" for option in sorted(options) if option.endswith(f".{name}")), name)


def _key(message: str) -> str | None:
    match = re.search(r'[Pp]arser key "([^"]+)"', message)
    return match and match[1]


def _plain(text: str) -> str:
    """Python's spelling of types, as people write them."""
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
    return re.sub(r"typing\.Literal\[([^\]]*)\]", r"one of \1", text)


def _whose(name: str, options: Iterable[str]) -> str | None:
    """The full name of an option that was given rightly, but to a class that has it not; none for any other."""
    return next((f"{group}{name}" for group in ("", "model.", "data.") if f"{group}{name}" in options), None)


def _others(option: str) -> str:
    """Which classes have it."""
    classes = owners(option)
    return f": it is an option of {', '.join(classes)}, which --{option.split('.')[0]} chooses" if classes else ""


def _nearest(name: str, options: Iterable[str]) -> str:
    """The option nearest to a name that may lack its leading groups, or all that are as near and as short."""
    by_leaf: dict[str, list[str]] = {}
    for option in sorted(options, key=lambda option: (len(option), option)):  # the shortest, and those as short
        same = by_leaf.setdefault(option.rsplit(".", 1)[-1], [])
        if not same or len(option) == len(same[0]):
            same.append(option)
    full = did_you_mean(name, options) if "." in name else ""
    if full:
        return full.replace("'", "").replace("mean ", "mean --")
    hint = did_you_mean(name.rsplit(".", 1)[-1], by_leaf)
    leaf = re.search(r"'(.+)'", hint)
    return f" (did you mean {' or '.join(f'--{option}' for option in by_leaf[leaf[1]])}?)" if leaf else ""

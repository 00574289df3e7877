"""Configuration files before they are parsed: mistakes that the parser would not name, or would not see."""

import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from tenshot.errors import InputError

__all__ = ["check_yaml"]

COMMANDS = ("fit", "validate", "test", "predict")


def check_yaml(paths: list[str]) -> None:
    """Name the file and the line of a mistake.

    Raises:
        InputError: A file is not YAML, or not a set of options; gives a key twice, of which YAML would take the last;
            or nests its options under the name of a command.
    """
    for path in filter(os.path.isfile, dict.fromkeys(paths)):
        try:
            loader = yaml.SafeLoader(Path(path).read_text())
            root = loader.get_single_node()
            repeated = [] if root is None else list(_repeated(root, "", set()))  # before merges are written out
            content = None if root is None else loader.construct_document(root)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
            where = f", line {mark.line + 1}" if mark else ""
            raise InputError(f"{path}{where}: not valid YAML ({problem or type(error).__name__}): mend it") from None
        if not isinstance(content, dict):
            raise InputError(f"{path}: holds no options: write a configuration as --print_config shows one")
        for key, lines in repeated:
            *others, last = map(str, lines)
            raise InputError(
                f"{path}: {key} is given {'twice' if len(lines) == 2 else f'{len(lines)} times'}, in lines "
                f"{', '.join(others)} and {last}, of which YAML takes only the last: make one of them"
            )
        for command in COMMANDS:
            if isinstance(content.get(command), dict):
                raise InputError(
                    f"{path}: its options are nested under {command}: take out that line and the indentation below it"
                )


def _repeated(node: yaml.Node, at: str, seen: set[int]) -> Iterator[tuple[str, list[int]]]:
    """Keys that a mapping holds more than once, dotted, with the numbers of their lines; anywhere below the node."""
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, list[int]] = {}
        for key, _ in node.value:
            lines.setdefault(str(key.value), []).append(key.start_mark.line + 1)
        yield from ((f"{at}{name}", found) for name, found in lines.items() if len(found) > 1)
        for key, value in node.value:
            yield from _repeated(value, f"{at}{key.value}.", seen)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _repeated(value, f"{at}{number}.", seen)

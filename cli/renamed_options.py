"""Options of older versions, which configurations of older runs still hold: left out, with a line."""

import json

import yaml
from lightning.pytorch.utilities import rank_zero_info

__all__ = ["without_former_options", "without_former_settings"]

FORMER = {"allow_pickle": "nothing in a file is run, whatever it says", "weights_only": "nothing in a file is run"}
"""With why there is no such option any more."""


def without_former_options(argv: list[str]) -> list[str]:
    """The arguments of a command line without options that are gone, and their values."""
    kept: list[str] = []
    value_follows = False
    for arg in argv:
        option = arg.split("=", 1)[0]
        if value_follows and not arg.startswith("--"):
            value_follows = False
            continue
        value_follows = option.startswith("--") and _told(option.lstrip("-").rsplit(".", 1)[-1], option)
        if value_follows:
            value_follows = "=" not in arg
            continue
        kept.append(arg)
    return kept


def without_former_settings(content: str) -> str:
    """A configuration in YAML without settings that are gone; as it is where there are none."""
    if not any(name in content for name in FORMER):
        return content
    try:
        settings = yaml.safe_load(content)
    except yaml.YAMLError:
        return content  # the parser says what is wrong with it
    return json.dumps(settings) if _dropped(settings) else content


def _dropped(settings: object) -> bool:
    """Take them out of dictionaries within dictionaries; whether there were any."""
    if not isinstance(settings, dict):
        return False
    gone = [name for name in settings if name in FORMER]
    for name in gone:
        if settings.pop(name):
            _told(name, name)
    return bool([_dropped(value) for value in settings.values()].count(True) or gone)


def _told(name: str, shown: str) -> bool:
    if name in FORMER:
        rank_zero_info(f"{shown} is no longer an option: {FORMER[name]}")
    return name in FORMER

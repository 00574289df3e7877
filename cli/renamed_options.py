"""Options and values of older versions, which older configurations still hold: left out or renamed, with a line."""

import json

import yaml
from lightning.pytorch.utilities import rank_zero_info

__all__ = ["without_former_options", "without_former_settings"]

FORMER = {"allow_pickle": "nothing in a file is run, whatever it says", "weights_only": "nothing in a file is run"}
"""With why there is no such option any more."""

FEATURES = "--evaluate.features"
FORMER_FEATURES = {"trained": "published"}
"""Values of that option, and what they are called now."""


def without_former_options(argv: list[str]) -> list[str]:
    """The arguments of a command line without options that are gone, and values under their names of now."""
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
        option, equals, value = arg.partition("=")
        if option == FEATURES and equals:
            arg = f"{option}={_features_of_now(value)}"
        elif kept and kept[-1] == FEATURES:
            arg = _features_of_now(arg)
        kept.append(arg)
    return kept


def _features_of_now(value: str) -> str:
    if value in FORMER_FEATURES:
        now = FORMER_FEATURES[value]
        rank_zero_info(f"{FEATURES} {value} is now called {now}: a later version will not know the old name")
    return FORMER_FEATURES.get(value, value)


def without_former_settings(content: str) -> str:
    """A configuration in YAML without settings that are gone, and values under their names of now; else as it is."""
    if not any(name in content for name in (*FORMER, *FORMER_FEATURES)):
        return content
    try:
        settings = yaml.safe_load(content)
    except yaml.YAMLError:
        return content  # the parser says what is wrong with it
    changed = [_dropped(settings), _renamed(settings)]
    return json.dumps(settings) if any(changed) else content


def _renamed(settings: object) -> bool:
    """Give values their names of now; whether there were others."""
    evaluation = settings.get("evaluate") if isinstance(settings, dict) else None
    if not isinstance(evaluation, dict) or evaluation.get("features") not in FORMER_FEATURES:
        return False
    evaluation["features"] = _features_of_now(evaluation["features"])
    return True


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

"""The public options are a frozen list: people script against them.

``python tests/cli/test_options.py`` prints the list as it is now.
"""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

from tenshot.cli import COMMANDS, main
from tenshot.cli.registry import CLASSES, parameters

FROZEN = Path(__file__).with_name("options.txt")


def options() -> Iterator[str]:
    """``fit --ema.decay``, ``DDPM --model.unet.channels`` and so on, but for the options of Lightning's trainer."""
    for command in COMMANDS:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            main([command, "--help"])
        names = set(re.findall(r"^ +(?:-\w, )?--([\w.]+)", out.getvalue(), re.MULTILINE))
        yield from (f"{command} --{name}" for name in names if not name.startswith("trainer."))
    for group, classes in CLASSES.items():
        for cls in classes:
            yield from (f"{cls.__name__} --{group}.{name}" for name in parameters(cls))


def test_the_public_options_are_the_frozen_ones():
    frozen, now = set(FROZEN.read_text().split("\n")) - {""}, set(options())
    assert now == frozen, (
        f"new: {sorted(now - frozen)}; gone: {sorted(frozen - now)}. Options are promises: if this is meant, run "
        "python tests/cli/test_options.py > tests/cli/options.txt, and say so in the commit"
    )


def test_the_list_is_of_something():
    for line in ("fit --ckpt_path", "predict --images.count", "convert --weights", "FewShot --data.root"):
        assert line in FROZEN.read_text().splitlines()


if __name__ == "__main__":
    print("\n".join(sorted(set(options()))))

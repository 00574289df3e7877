"""``python -m tenshot``, the same as ``tenshot``."""

from tenshot.cli import main

main()

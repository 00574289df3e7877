"""Runs side by side: one page, one image and one table of what ``tenshot fit`` and ``tenshot test`` left."""

from tenshot.reports.groups import Group, grouped
from tenshot.reports.run import Run, read_run
from tenshot.reports.write import write_report

__all__ = ["Group", "Run", "grouped", "read_run", "write_report"]

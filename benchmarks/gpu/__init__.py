"""Proves and measures everything on a GPU in one command: ``make gpu``; the same tiny on the CPU: ``make gpu-dry``."""

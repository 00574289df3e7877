"""The evidence of docs/evidence.md, by one command: ``make evidence``."""

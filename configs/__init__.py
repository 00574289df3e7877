"""Recipes, one YAML a task: ``tenshot fit --config configs/<method>/<task>.yaml``."""

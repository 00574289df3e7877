"""Measurements, a command each; what they share is in ``parts``.

A package, so that no installed one of this name is taken for it.
"""

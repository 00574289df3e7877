"""What the measurements are made of: sides, settings, processes that take turns, tables."""

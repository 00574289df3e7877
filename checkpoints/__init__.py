"""Trained networks in files: which kinds there are, how they are found, read, described and compared."""

"""The commands, one a file; see `tipline.cli`."""

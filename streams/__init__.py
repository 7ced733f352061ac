"""Decisions: ports, pure stages, the fold over them, and the two runtimes that drive it."""

"""Intake: the outside world -> an admitted tip. One file a channel; one publisher; the HTTP door."""

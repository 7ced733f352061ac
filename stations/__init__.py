"""The work on the queue: life cycle, clocks, API and console pages."""

"""The shell: settings, wiring, metrics registry, command line. The only room that reads environment, arguments, clock and randomness."""

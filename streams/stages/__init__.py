"""The pure stages of a decision, one a file: normalise, extract, classify, locate, group, route."""

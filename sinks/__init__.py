"""Delivery: log -> SQL tables (station queue, statistics, dead letters, audit), idempotent by natural key."""

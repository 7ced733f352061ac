"""The contract: JSON Schemas (versioned, append-only), record types, topics, codec and validation. Imports nothing of ours."""

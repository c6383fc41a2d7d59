"""The pipelines: nodes and wiring."""

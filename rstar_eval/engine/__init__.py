"""Engines: where the searches of a run are done, in this process or on the workers of a Ray cluster (docs/scale.md)."""

"""Many subjects: a manifest of rows, carried out by an existing engine, on this machine or on many."""

from stavatar.batch.batch import Settings, plan, run_batch, summarise

__all__ = ["Settings", "plan", "run_batch", "summarise"]

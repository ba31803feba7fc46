"""Results for readers: one self-contained page per run, and tables over runs."""

"""Pictures of what training did, drawn from plain numbers: one module for each kind of picture."""

"""How long each part of the package takes on this machine, how long it would take at best, and what memory it needs."""

"""How an avatar is learned from a sequence."""

"""How good an avatar is: metrics by name, result files that state their protocol, pictures to look at."""

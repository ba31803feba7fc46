"""stavatar: from an ordinary video of one person talking to an animatable 3D Gaussian head avatar."""

__version__ = "0.1.0"

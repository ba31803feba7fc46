"""Settings that train on the small sequence in a second."""

TINY = (
    "capture.size=64",
    "network.uv_size=32",
    "network.width=0.125",
    "gaussians.seeds=50",
    "pose.passes=[]",
    "pose.iterations=1",
    "training.steps=3",
)

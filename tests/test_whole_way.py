"""The whole way on a rendered performance, detection included."""

from __future__ import annotations

import json

import av
import pytest
import torch

from stavatar import assets, config, pipeline
from stavatar.errors import AssetError
from stavatar.sequence import read_sequence


def frames_of(path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.slow
def test_a_rendered_performance_becomes_an_avatar(tmp_path):
    """Video in, avatar out: decoding, detection, matting, tracking, training and measuring, nothing replaced."""
    try:
        for name in ("face_landmarker", "selfie_segmenter"):
            assets.path(name)
    except AssetError as reason:
        pytest.skip(str(reason))
    changes = ["capture.size=128", "network.uv_size=32", "network.width=0.125", "training.steps=20", "pose.passes=[]"]
    small = config.override(config.preset("cpu"), [*changes, "pose.iterations=2"])
    video = tmp_path / "talk.mp4"
    truth = pipeline.synthesise(video, frames=40, size=256, seed=0, noise=0.01)
    assert truth.is_file()
    run = pipeline.reconstruct(video, tmp_path / "run", small, holdout=4, device=torch.device("cpu"))

    sequence = read_sequence(run.sequence)
    assert (sequence.width, sequence.height) == (128, 128)
    assert len(sequence.test) == 4
    results = json.loads(run.results.read_text())
    assert results["protocol"]["holdout"] == 4
    assert set(results["stage_seconds"]) == {
        "capture",
        "tracking",
        "tracking_video",
        "training",
        "held_out_tracking",
        "evaluation",
    }
    assert frames_of(run.tracking_video) == len(sequence)
    # Far better than showing nothing: a white picture.
    white = (1 - sequence.image(sequence.test)).square().mean((1, 2, 3))
    assert results["metrics"]["psnr"] > float((-10 * white.log10()).mean()) + 6

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from landmark_clip import Clip

from stavatar.sequence import Sequence
from stavatar.tracking import TrackReport
from stavatar.tracking.advice import Advice
from stavatar.tracking.description import describe_tracking


def test_a_track_is_described_in_json(moving_clip: Clip, tracked: tuple[Sequence, TrackReport]) -> None:
    """Frames 0, 30, 31 and 60 to 71 of 100 have no face; the last of these gaps is just short enough to be bridged."""
    sequence, report = tracked
    advice = [Advice("small face", "the face is small", "come closer", (3, 4), "3-4").described()]
    track = json.loads(
        json.dumps(describe_tracking(sequence, moving_clip.head, moving_clip.embedding, advice), allow_nan=False)
    )
    assert [track["state"][t] for t in (0, 10, 30, 65)] == [3, 0, 2, 2]
    assert (track["figures"]["frames"], track["figures"]["tracked"]) == (100, 85)
    assert track["landmark_error"][65] is None
    assert track["figures"]["landmark_error"]["all"] == pytest.approx(report.residual_on_head.all, rel=0.05)
    assert track["figures"]["eye_distance"] == pytest.approx(report.eye_distance, rel=0.05)
    assert track["advice"] == [
        {"topic": "small face", "reason": "the face is small", "remedy": "come closer", "frames": "3-4", "count": 2}
    ]
    lengths = {len(values) for _, curves in track["curves"].values() for values in curves.values()}
    assert lengths == {100} == {len(track[name]) for name in ("frames", "confidence", "state", "landmark_error")}
    assert track["spectra"]["rotation"]["hertz"][-1] == pytest.approx(12.5, abs=0.2)


def test_angles_and_places_have_the_signs_that_they_are_named_by(
    moving_clip: Clip, tracked: tuple[Sequence, TrackReport]
) -> None:
    """One frame turns to its left by 10 degrees, one nods down by 5, one is 20 mm higher, and one opens its mouth."""
    head = moving_clip.head
    parameters = head.neutral(100)
    parameters.neck[1, 1], parameters.neck[2, 0] = torch.tensor([10.0, 5.0]).deg2rad()
    parameters.translation[3, 1] = 0.02
    parameters.expression[4, head.expression_names.index("jawOpen")] = 1
    parameters.eyes[5, [0, 3]] = torch.tensor(7.0).deg2rad()
    track = describe_tracking(replace(tracked[0], parameters=parameters), head, moving_clip.embedding, [])
    curves = {heading: values for heading, (_, values) in track["curves"].items()}
    turns = curves["Rotation of the head"]
    assert turns["to its left"][1] == pytest.approx(10, abs=0.01) and turns["down"][2] == pytest.approx(5, abs=0.01)
    place = curves["Place of the head"]["up"]
    assert place[3] - place[0] == pytest.approx(20, abs=0.01)
    mouth = curves["Mouth, open"]["lips apart"]
    assert mouth[4] > mouth[0] + 0.1
    assert curves["Gaze in the head"]["down"][5] == pytest.approx(7, abs=0.01)

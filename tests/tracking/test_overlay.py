from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from landmark_clip import SIZE, Clip

from stavatar.sequence import Sequence
from stavatar.tracking import TrackReport
from stavatar.tracking.gaps import BRIDGED
from stavatar.tracking.overlay import INK, MARKS, STRIP, WORDS, overlay_frames


def test_overlay_draws_the_head_where_it_is(moving_clip: Clip, tracked: tuple[Sequence, TrackReport]) -> None:
    sequence = replace(tracked[0], images=torch.full_like(tracked[0].images, 128))
    chosen = torch.tensor([10, 65])
    pictures = list(overlay_frames(sequence, moving_clip.head, moving_clip.embedding, chosen, least_size=512))
    assert [picture.shape for picture in pictures] == [(512 + WORDS + STRIP, 512, 3)] * 2

    changed = (pictures[0][:512] != 128).any(-1)
    rows, columns = np.nonzero(changed)
    head = moving_clip.head
    vertices = head(sequence.shape, sequence.parameters[[10]]).vertices
    faces = head.faces[head.faces_in("face", "nose", "lips", "eyes", "eyeballs", "ears", "torso", "neck")]
    first, second, third = sequence.camera.to_camera(vertices)[0, faces].unbind(1)
    towards_camera = (torch.linalg.cross(second - first, third - first) * first).sum(1) < 0
    pixels = sequence.camera.project(vertices)[0, faces[towards_camera].unique()] * 512 / SIZE
    assert abs(columns.min() - float(pixels[:, 0].min().clamp_min(0))) < 2
    assert abs(columns.max() - float(pixels[:, 0].max().clamp_max(511))) < 2
    assert abs(rows.min() - float(pixels[:, 1].min())) < 2

    red = [picture[8:504, 8:504, 0].astype(int) - picture[8:504, 8:504, 1] > 90 for picture in pictures]
    detected = [mask.sum() for mask in red]
    assert detected[0] > 50, "landmarks are drawn"
    assert detected[1] == 0, "frame 65 has none"
    assert (pictures[0][512 : 512 + WORDS] == 255).mean() > 0.5, "words on white below"


def test_the_strip_marks_where_in_the_clip_nothing_is_learned(
    moving_clip: Clip, tracked: tuple[Sequence, TrackReport]
) -> None:
    """Frames 60 to 71 of 100 are bridged; the picture of one of them is framed, and so is that part of the strip."""
    sequence = replace(tracked[0], images=torch.full_like(tracked[0].images, 128))
    inside, outside = overlay_frames(sequence, moving_clip.head, moving_clip.embedding, torch.tensor([65, 10]))
    strip = outside[-STRIP:]
    marked = (strip[5:-5] == MARKS[BRIDGED]).all(-1).mean(0) > 0.4
    columns = np.flatnonzero(marked[200:]) + 200
    assert columns.min() == pytest.approx(0.60 * 512, abs=3) and columns.max() == pytest.approx(0.72 * 512, abs=3)
    for picture, frame in ((inside, 65), (outside, 10)):
        cursor = np.flatnonzero((picture[-STRIP + 4 : -4] == INK).all((0, 2)))
        assert cursor.mean() == pytest.approx((frame + 0.5) * 5.12, abs=2)
    assert (inside[3, 8:504] == MARKS[BRIDGED]).all() and not (outside[3, 8:504] == MARKS[BRIDGED]).any()


def test_in_a_long_gap_no_head_is_drawn(moving_clip: Clip, tracked: tuple[Sequence, TrackReport]) -> None:
    confidence = torch.ones(100)
    confidence[40:70] = 0
    sequence = replace(tracked[0], images=torch.full_like(tracked[0].images, 128), confidence=confidence)
    sequence = replace(sequence, landmarks=None)
    lost, seen = overlay_frames(sequence, moving_clip.head, moving_clip.embedding, torch.tensor([50, 10]))
    assert (lost[10:500, 10:500] == 128).all()
    assert (seen[10:500, 10:500] != 128).any()


def test_every_frame_is_drawn_by_default(moving_clip: Clip, tracked: tuple[Sequence, TrackReport]) -> None:
    pictures = overlay_frames(tracked[0], moving_clip.head, moving_clip.embedding)
    first = next(pictures)
    assert first.dtype == np.uint8
    assert sum(1 for _ in pictures) == len(tracked[0]) - 1

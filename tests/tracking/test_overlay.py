from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from landmark_clip import SIZE, Clip

from stavatar.sequence import Sequence
from stavatar.tracking import TrackReport
from stavatar.tracking.overlay import overlay_frames


def test_overlay_draws_the_head_where_it_is(moving_clip: Clip, tracked: tuple[Sequence, TrackReport]) -> None:
    sequence = replace(tracked[0], images=torch.full_like(tracked[0].images, 128))
    chosen = torch.tensor([10, 65])
    pictures = list(overlay_frames(sequence, moving_clip.head, moving_clip.embedding, chosen, least_size=512))
    assert [picture.shape for picture in pictures] == [(512, 512, 3)] * 2

    changed = (pictures[0][:480] != 128).any(-1)
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

    red = [picture[..., 0].astype(int) - picture[..., 1] > 90 for picture in pictures]
    detected = [mask.sum() for mask in red]
    assert detected[0] > 50, "landmarks are drawn"
    assert detected[1] == 0, "frame 65 has none"
    assert (pictures[0][490:] == 255).mean() > 0.5, "words on white below"


def test_every_frame_is_drawn_by_default(moving_clip: Clip, tracked: tuple[Sequence, TrackReport]) -> None:
    pictures = overlay_frames(tracked[0], moving_clip.head, moving_clip.embedding)
    first = next(pictures)
    assert first.dtype == np.uint8
    assert sum(1 for _ in pictures) == len(tracked[0]) - 1

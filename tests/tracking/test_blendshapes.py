from __future__ import annotations

from dataclasses import replace

import torch
from landmark_clip import Clip

from stavatar.tracking.blendshapes import expression_guess, gaze_guess


def _with_scores(clip: Clip, **scores: list[float]) -> Clip:
    """The clip with these scores in its first frames, and zeros elsewhere."""
    observations = clip.observations
    table = torch.zeros(len(observations), 52)
    for name, values in scores.items():
        table[: len(values), observations.blendshape_names.index(name)] = torch.tensor(values)
    return replace(clip, observations=replace(observations, blendshapes=table))


def test_rest_is_taken_off_and_full_stays_full(moving_clip: Clip) -> None:
    clip = _with_scores(moving_clip, eyeSquintLeft=[0.4, 0.4, 0.4, 0.7, 1.0, 0.4], jawOpen=[0, 0, 0.5, 1, 0, 0])
    guess = expression_guess(clip.observations, torch.arange(6), ["jawOpen", "tongueOut", "eyeSquintLeft"])
    torch.testing.assert_close(guess[:, 0], torch.tensor([0, 0, 0.5, 1, 0, 0]))
    assert (guess[:, 1] == 0).all(), "MediaPipe does not report tongueOut"
    torch.testing.assert_close(guess[:, 2], torch.tensor([0, 0, 0, 0.5, 1, 0]))


def test_both_eyes_look_the_same_way(moving_clip: Clip) -> None:
    """Looking to the subject's left is out for the left eye and in for the right one; down is positive pitch."""
    zeros = [0.0, 0.0, 0.0]
    left = [0.0, 0.0, 0.8]
    clip = _with_scores(moving_clip, eyeLookOutLeft=left, eyeLookInRight=left, eyeLookUpLeft=zeros)
    guess = gaze_guess(clip.observations, torch.arange(3))
    assert (guess[2, :, 1] > 0.1).all()
    assert (guess[:2] == 0).all()
    clip = _with_scores(moving_clip, eyeLookDownLeft=left, eyeLookDownRight=left)
    guess = gaze_guess(clip.observations, torch.arange(3))
    assert (guess[2, :, 0] > 0.1).all()
    assert (guess[..., 1] == 0).all()

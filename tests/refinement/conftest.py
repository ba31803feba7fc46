"""A clip whose tracking is off."""

import dataclasses

import pytest
import torch

from stavatar.avatar.avatar import render


@pytest.fixture(scope="session")
def shaken(true_avatar, small_sequence):
    """A clip of 12 frames whose poses and expressions are off, by slowly changing amounts."""
    generator = torch.Generator().manual_seed(1)
    frames = torch.arange(12) % len(small_sequence)
    truth = small_sequence.parameters[frames]
    with torch.no_grad():
        view = render(true_avatar(truth), small_sequence.camera)

    def off(value, size):
        # No constant part: the likeness would take that for the subject's looks.
        return value + torch.linspace(-1, 1, 12)[:, None] * size * torch.randn(value.shape[1], generator=generator)

    wrong = truth.replaced(
        neck=off(truth.neck, 0.02),
        translation=off(truth.translation, 0.003),
        expression=off(truth.expression, 0.05),
    )
    tracked = dataclasses.replace(
        small_sequence,
        parameters=wrong,
        images=(view.image * 255).round().to(torch.uint8),
        masks=(view.alpha * 255).round().to(torch.uint8),
        frame_ids=torch.arange(12),
        train=torch.arange(10),
        test=torch.arange(10, 12),
        confidence=torch.full((12,), 0.9),
        history={"tracker": "landmarks-1"},
    )
    return tracked, truth

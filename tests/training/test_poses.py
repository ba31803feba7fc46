"""Tracked parameters as things to learn."""

import torch

from stavatar.config import PoseConfig
from stavatar.head import HeadParameters
from stavatar.training.poses import TrackedParameters

CONFIG = PoseConfig(expression=1e-2, rotation=1e-3, neck=0.0, translation=1e-3)


def make(frames=20, movable=None):
    start = HeadParameters.zeros(frames, 4)
    return TrackedParameters(start, CONFIG, torch.ones(frames, dtype=torch.bool) if movable is None else movable)


def gradient_step(poses, frames, gradient=1.0, **options):
    rows = poses.rows(frames)
    loss = sum((gradient * value).sum() for _, value in poses.parameters_of(rows).items() if value.requires_grad)
    loss.backward()
    poses.step(frames, rows, factor=1.0, **options)


def test_only_the_frames_of_a_step_move_and_fields_without_a_rate_stay():
    poses = make()
    frames = torch.tensor([3, 7])
    gradient_step(poses, frames)
    moved = poses.all().expression.abs().sum(1).nonzero()[:, 0]
    assert moved.tolist() == [3, 7]
    assert poses.all().neck.abs().max() == 0
    torch.testing.assert_close(poses.all().rotation[3], torch.full((3,), -1e-3))  # Adam's first step is the rate


def test_a_frame_seen_alone_moves_as_under_torch_adam():
    poses = make(frames=1)
    own = torch.zeros(1, 4, requires_grad=True)
    adam = torch.optim.Adam([own], lr=CONFIG.expression, betas=(0.8, 0.95), eps=1e-12)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        gradient = torch.randn(1, 4, generator=generator)
        own.grad = gradient
        adam.step()
        rows = poses.rows(torch.tensor([0]))
        (poses.parameters_of(rows).expression * gradient).sum().backward()
        poses.step(torch.tensor([0]), rows, factor=1.0)
    torch.testing.assert_close(poses.all().expression, own.detach(), atol=1e-6, rtol=1e-4)


def test_neighbours_get_a_share_but_held_out_frames_never_move():
    movable = torch.ones(20, dtype=torch.bool)
    movable[11:] = False
    poses = make(movable=movable)
    gradient_step(poses, torch.tensor([10]), neighbours=0.5)
    moved = poses.all().translation[:, 0]
    assert moved[10] < moved[9] < moved[8] < 0
    torch.testing.assert_close(moved[9] / moved[10], torch.tensor(0.5 * 2.718281828 ** (-0.5 / 2.5**2)))
    assert (moved[11:] == 0).all()
    assert (moved[:4] == 0).all()


def test_replaced_frames_forget_their_momentum():
    poses = make()
    frame = torch.tensor([5])
    for _ in range(3):
        gradient_step(poses, frame)
    poses.replace(frame, HeadParameters.zeros(1, 4))
    gradient_step(poses, frame, gradient=-1.0)
    torch.testing.assert_close(poses.all().rotation[5], torch.full((3,), 1e-3))

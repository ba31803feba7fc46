"""The error map and its mean under a splat, against the formula computed pixel by pixel."""

import math

import pytest
import torch

from stavatar.density.error import box_error, fused_error


def test_error_weighs_difference_and_structure():
    render, truth = torch.zeros(1, 3, 4, 5), torch.full((1, 3, 4, 5), 0.5)
    similarity = torch.full((1, 3, 4, 5), -0.2)
    error = fused_error(render, truth, similarity, ssim_weight=0.2)
    assert error.shape == (1, 4, 5)
    torch.testing.assert_close(error, torch.full((1, 4, 5), 0.8 * 0.5 + 0.2 * (1.2 / 2)))


def test_equal_pictures_have_no_error():
    picture = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert fused_error(picture, picture, torch.ones_like(picture)).abs().max() == 0


def by_hand(error, centers, counts, weights):
    """Equation 9, one Gaussian and one pixel at a time."""
    frames, height, width = error.shape
    result = torch.zeros_like(counts)
    for b in range(frames):
        for i in range(counts.shape[1]):
            if counts[b, i] == 0:
                continue
            reach = math.floor(math.sqrt(counts[b, i].item()) / 2)
            column, row = (math.floor(value) for value in centers[b, i].tolist())
            values = [
                error[b, y, x].item()
                for y in range(max(0, row - reach), min(height, row + reach + 1))
                for x in range(max(0, column - reach), min(width, column + reach + 1))
            ]
            if values:
                result[b, i] = weights[b, i] / counts[b, i] * sum(values) / len(values)
    return result


def test_box_error_equals_the_sum_over_pixels():
    generator = torch.Generator().manual_seed(3)
    frames, count, height, width = 2, 60, 21, 33
    error = torch.rand(frames, height, width, generator=generator)
    centers = torch.rand(frames, count, 2, generator=generator) * torch.tensor([1.4 * width, 1.4 * height]) - 5
    counts = torch.randint(0, 400, (frames, count), generator=generator).float()
    counts[0, :8] = torch.arange(8)
    weights = torch.rand(frames, count, generator=generator) * counts
    torch.testing.assert_close(box_error(error, centers, counts, weights), by_hand(error, centers, counts, weights))


def test_a_square_outside_the_picture_and_an_unseen_gaussian_have_no_error():
    error = torch.ones(1, 8, 8)
    centers = torch.tensor([[[40.0, 4.0], [4.0, 4.0], [4.0, 4.0]]])
    found = box_error(error, centers, torch.tensor([[9.0, 0.0, 4.0]]), torch.tensor([[5.0, 0.0, 2.0]]))
    assert found.tolist() == [[0.0, 0.0, pytest.approx(0.5)]]


def test_small_squares_keep_their_precision_in_large_pictures():
    """A table of float32 sums would be off by more than what one pixel of error amounts to."""
    error = torch.full((1, 1024, 1024), 0.37)
    error[0, 1000, 1000] = 0.37 + 1e-3
    one = torch.ones(1, 1)
    found = box_error(error, torch.tensor([[[1000.5, 1000.5]]]), one, one)
    assert found.item() == pytest.approx(0.37 + 1e-3, abs=1e-6)

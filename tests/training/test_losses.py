"""Losses against analytic cases and a float64 reference that walks over every window."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from stavatar.training import losses


def brute_force_ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """SSIM of two [H, W] float64 images, one window after the other, with the 2-D kernel written out."""
    x, y = np.meshgrid(np.arange(-5, 6), np.arange(-5, 6))
    kernel = np.exp(-(x**2 + y**2) / (2 * 1.5**2))
    kernel /= kernel.sum()
    a, b = np.pad(a, 5), np.pad(b, 5)
    result = np.empty((a.shape[0] - 10, a.shape[1] - 10))
    for row, column in np.ndindex(*result.shape):
        p, q = a[row : row + 11, column : column + 11], b[row : row + 11, column : column + 11]
        mean_p, mean_q = (kernel * p).sum(), (kernel * q).sum()
        # With zeros beyond the border the weights still sum to 1, so these are the usual weighted moments.
        variance_p, variance_q = (kernel * (p - mean_p) ** 2).sum(), (kernel * (q - mean_q) ** 2).sum()
        covariance = (kernel * (p - mean_p) * (q - mean_q)).sum()
        result[row, column] = ((2 * mean_p * mean_q + 1e-4) * (2 * covariance + 9e-4)) / (
            (mean_p**2 + mean_q**2 + 1e-4) * (variance_p + variance_q + 9e-4)
        )
    return result


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_l1_is_the_mean_absolute_difference() -> None:
    a = torch.tensor([0.0, 1.0, 0.5, 0.25]).reshape(1, 1, 2, 2)
    b = torch.tensor([0.5, 0.5, 0.5, 0.5]).reshape(1, 1, 2, 2)
    assert losses.l1(a, b).item() == pytest.approx((0.5 + 0.5 + 0 + 0.25) / 4)


class TestSsim:
    def test_agrees_with_brute_force_on_noise_borders_included(self) -> None:
        a, b = noise(2, 3, 17, 14), noise(2, 3, 17, 14, seed=1)
        b[0] = (a[0] + 0.1 * b[0]).clamp(0, 1)
        expected = [
            [brute_force_ssim(p.numpy(), q.numpy()) for p, q in zip(*pair, strict=True)]
            for pair in zip(a, b, strict=True)
        ]
        np.testing.assert_allclose(losses.ssim_map(a, b).numpy(), np.array(expected), atol=1e-12)

    def test_float32_stays_close_to_float64(self) -> None:
        a, b = noise(1, 3, 32, 32), noise(1, 3, 32, 32, seed=1)
        single = losses.ssim_map(a.float(), b.float())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), losses.ssim_map(a, b), atol=1e-4, rtol=0)

    def test_equal_images_have_similarity_one_everywhere(self) -> None:
        image = noise(1, 3, 20, 20)
        torch.testing.assert_close(losses.ssim_map(image, image), torch.ones_like(image), atol=1e-12, rtol=0)

    def test_constant_images_differ_in_luminance_only(self) -> None:
        a, b = (torch.full((1, 1, 31, 31), value, dtype=torch.float64) for value in (0.2, 0.6))
        expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
        assert losses.ssim_map(a, b)[0, 0, 15, 15].item() == pytest.approx(expected, abs=1e-12)

    def test_is_symmetric_and_negative_for_an_inverted_texture(self) -> None:
        a = noise(1, 3, 24, 24)
        torch.testing.assert_close(losses.ssim_map(a, 1 - a), losses.ssim_map(1 - a, a))
        assert losses.ssim_map(a, 1 - a)[..., 8:-8, 8:-8].mean() < -0.8

    def test_gradient_is_right_for_both_images(self) -> None:
        a, b = noise(1, 1, 6, 7).requires_grad_(), noise(1, 1, 6, 7, seed=1).requires_grad_()
        assert torch.autograd.gradcheck(losses.ssim_map, (a, b))

    def test_the_cpus_own_derivative_agrees_with_autograds(self) -> None:
        for shape in ((2, 3, 19, 26), (1, 1, 4, 9), (1, 2, 26, 3)):
            a, b, upstream = (noise(*shape, seed=seed) for seed in (0, 1, 2))
            exact = losses._similarity_by_formula(a.requires_grad_(), b)
            fast_a = a.detach().float().requires_grad_()
            fast = losses.ssim_map(fast_a, b.float())
            assert "Similarity" in str(fast.grad_fn)
            torch.testing.assert_close(fast.double(), exact, atol=2e-5, rtol=0)
            theirs = torch.autograd.grad(exact, a, upstream)[0]
            ours = torch.autograd.grad(fast, fast_a, upstream.float())[0]
            torch.testing.assert_close(ours.double(), theirs, atol=2e-4 * float(theirs.abs().max()), rtol=0)

    def test_any_memory_layout_will_do(self) -> None:
        a, b = noise(2, 3, 20, 21), noise(2, 3, 20, 21, seed=1)
        strided = a.contiguous(memory_format=torch.channels_last), b.movedim(1, -1).contiguous().movedim(-1, 1)
        torch.testing.assert_close(losses.ssim_map(*strided), losses.ssim_map(a, b))

    def test_half_precision_loses_no_more_than_the_pictures_did(self) -> None:
        a, b = (noise(1, 3, 32, 32, seed=seed).bfloat16() for seed in (0, 1))
        exact = losses.ssim_map(a.double(), b.double())
        torch.testing.assert_close(losses.ssim_map(a, b).double(), exact, atol=1e-4, rtol=0)
        with torch.autocast("cpu", torch.bfloat16):
            blurred = losses._blur(a.float())
        assert blurred.dtype == torch.float32
        torch.testing.assert_close(blurred.double(), losses._blur(a.double()), atol=1e-6, rtol=0)

    def test_the_window_can_be_trained_with_after_inference(self) -> None:
        losses._window.cache_clear()
        with torch.inference_mode():
            losses._blur(noise(1, 1, 12, 12))
        a = noise(1, 1, 12, 12).requires_grad_()
        losses._blur(a).square().mean().backward()
        assert a.grad is not None and a.grad.abs().sum() > 0

    def test_images_of_two_shapes_are_refused(self) -> None:
        with pytest.raises(ValueError, match="one shape"):
            losses.ssim_map(noise(1, 3, 8, 8), noise(1, 3, 8, 9))


class TestPhotometricLoss:
    def test_is_zero_for_equal_images(self) -> None:
        image = noise(1, 3, 20, 20)
        assert losses.photometric_loss(image, image).item() == pytest.approx(0, abs=1e-12)

    def test_weighs_the_two_terms_as_in_eq_12(self) -> None:
        a, b = noise(2, 3, 16, 16), noise(2, 3, 16, 16, seed=1)
        absolute, similarity = (a - b).abs().mean(), losses.ssim_map(a, b).mean()
        assert losses.photometric_loss(a, b).item() == pytest.approx((0.8 * absolute + 0.2 * (1 - similarity)).item())
        assert losses.photometric_loss(a, b, ssim_weight=0.0).item() == pytest.approx(absolute.item())

    def test_gradient(self) -> None:
        a, b = noise(1, 1, 6, 7).requires_grad_(), noise(1, 1, 6, 7, seed=1)
        assert torch.autograd.gradcheck(lambda render: losses.photometric_loss(render, b), (a,))


class TestOffsetRegularisation:
    def test_is_zero_where_nothing_is_changed(self) -> None:
        assert losses.offset_regularisation(torch.ones(4, 3), torch.zeros(4, 3)) == 0

    def test_eq_13(self) -> None:
        scale = torch.tensor([[0.5, 1.0, 2.0]])  # mean |d - 1| = 0.5
        colour = torch.tensor([[-0.3, 0.0, 0.6]])  # mean |d| = 0.3
        expected = 1e-2 * 0.5 + 1e-3 * 0.3
        assert losses.offset_regularisation(scale, colour).item() == pytest.approx(expected)


class TestPenalties:
    def test_scale_counts_what_exceeds_the_limit(self) -> None:
        log_scale = torch.tensor([[0.9, 1.0, 0.1], [0.6, 0.5, 0.4], [5.0, 5.0, 5.0]]).log()
        visible = torch.tensor([True, True, False])
        # Only the first Gaussian exceeds 0.6, by (0.3, 0.4, 0): a length of 0.5, shared by two visible Gaussians.
        assert losses.scale_penalty(log_scale, visible).item() == pytest.approx(0.25, abs=1e-6)

    def test_position_counts_what_lies_outside_on_either_side(self) -> None:
        position = torch.tensor([[-4.0, 5.0, 0.5], [1.0, -1.0, 0.0]])
        assert losses.position_penalty(position, torch.tensor([True, True])).item() == pytest.approx(2.5)

    def test_exempt_gaussians_count_neither_above_nor_below(self) -> None:
        position = torch.tensor([[4.0, 0.0, 0.0], [100.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        exempt = torch.tensor([False, True, False])
        penalty = losses.position_penalty(position, torch.ones(3, dtype=torch.bool), exempt)
        assert penalty.item() == pytest.approx(1.5)

    def test_a_gaussian_seen_by_two_pictures_counts_twice(self) -> None:
        position = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        visible = torch.tensor([[True, True], [True, False]])
        assert losses.position_penalty(position, visible).item() == pytest.approx(4 / 3)

    def test_nothing_visible_costs_nothing(self) -> None:
        position = torch.full((3, 3), 9.0)
        assert losses.position_penalty(position, torch.zeros(3, dtype=torch.bool)).item() == 0

    def test_gradients_are_finite_inside_the_limit_and_right_outside(self) -> None:
        inside = torch.zeros(2, 3, requires_grad=True)
        losses.position_penalty(inside, torch.ones(2, dtype=torch.bool)).backward()
        assert inside.grad is not None and torch.equal(inside.grad, torch.zeros(2, 3))
        outside = (noise(5, 3) + 1.5).requires_grad_()
        visible, exempt = torch.tensor([True] * 4 + [False]), torch.tensor([True] + [False] * 4)
        assert torch.autograd.gradcheck(lambda x: losses.position_penalty(x, visible, exempt), (outside,))
        assert torch.autograd.gradcheck(lambda x: losses.scale_penalty(x, visible, exempt), (outside - math.log(9),))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("size", [(5, 7), (64, 64), (50, 131)])
def test_similarity_on_a_gpu_is_that_of_the_cpu(size):
    generator = torch.Generator().manual_seed(0)
    render, truth, gradient = (torch.rand(2, 3, *size, generator=generator) for _ in range(3))
    results = []
    for device in ("cpu", "cuda"):
        leaf = render.to(device, copy=True).requires_grad_()
        similarity = losses.ssim_map(leaf, truth.to(device))
        similarity.backward(gradient.to(device))
        results.append((similarity.detach().cpu(), leaf.grad.cpu()))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=0, atol=2e-5)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-3, atol=2e-4)

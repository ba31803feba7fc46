"""What training minimises: the picture terms and the regularisers of eq. 12 to 14.

Images are NCHW in [0, 1]. Every function returns a scalar unless it says otherwise, works on CPU and CUDA without
waiting for the device, and keeps the dtype of its input. The perceptual term of eq. 12 is
:class:`stavatar.evaluation.lpips.LPIPS`, which needs downloaded weights and is therefore added by the caller.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import conv2d, relu

from stavatar.gpu import has_kernels

WINDOW = 11
SIGMA = 1.5
C1 = 0.01**2
C2 = 0.03**2


def l1(render: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of two images [B, C, H, W]."""
    return torch.linalg.vector_norm(render - truth, 1) / render.numel()  # a mean would cost two more passes


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of every pixel and channel: [B, C, H, W] twice -> [B, C, H, W] in [-1, 1].

    SSIM = (2 μa μb + C1)(2 σab + C2) / ((μa² + μb² + C1)(σa² + σb² + C2)) with means, variances and covariance under
    an 11 x 11 Gaussian window of sigma 1.5, C1 = 0.01², C2 = 0.03² (Wang et al. 2004 for data in [0, 1]). As in 3DGS
    the window sees zeros beyond the border, so that the map is as large as the images.
    """
    if a.shape != b.shape:
        raise ValueError(f"SSIM compares images of one shape, not {tuple(a.shape)} and {tuple(b.shape)}")
    # Variances are small differences of large numbers: in half precision nothing would be left of them.
    a, b = (image.float() if image.dtype in (torch.bfloat16, torch.float16) else image for image in (a, b))
    if has_kernels(a.device) and a.shape[1] == 3 and a.dtype == torch.float32 and not b.requires_grad:
        from stavatar.gpu._ssim_triton import Similarity

        similarity: Tensor = Similarity.apply(a, b, _window(a.dtype, a.device), C1, C2)
        return similarity
    if a.device.type == "cpu" and a.dtype == torch.float32 and b.dtype == torch.float32 and not b.requires_grad:
        from stavatar.similarity import Similarity as CpuSimilarity  # compiled on CPUs only

        result: Tensor = CpuSimilarity.apply(a, b, _window(a.dtype, a.device), C1, C2)
        return result
    return _similarity_by_formula(a, b)


def _similarity_by_formula(a: Tensor, b: Tensor) -> Tensor:
    """:func:`ssim_map` as it is written down, with gradients to both pictures."""
    # The target's two blurs run apart from the render's three: without a gradient to carry they cost half.
    mean_a, square_a, product = _blur(torch.cat([a, a * a, a * b], 1)).chunk(3, 1)
    mean_b, square_b = _blur(torch.cat([b, b * b], 1)).chunk(2, 1)
    means = mean_a * mean_b
    mean_squares = mean_a * mean_a + mean_b * mean_b
    luminance = (2 * means + C1) / (mean_squares + C1)
    structure = (2 * (product - means) + C2) / (square_a + square_b - mean_squares + C2)
    return luminance * structure


def _blur(images: Tensor) -> Tensor:
    """Gaussian window over each channel of [B, C, H, W], zeros beyond the border."""
    channels = images.shape[1]
    row = _window(images.dtype, images.device).expand(channels, 1, 1, WINDOW)
    half = WINDOW // 2
    with torch.autocast(images.device.type, enabled=False):
        images = conv2d(images, row, padding=(0, half), groups=channels)
        return conv2d(images, row.transpose(2, 3), padding=(half, 0), groups=channels)


@lru_cache(maxsize=8)
def _window(dtype: torch.dtype, device: torch.device) -> Tensor:
    # Outside inference mode, whoever asks first: autograd may not save an inference tensor for a later backward pass.
    with torch.inference_mode(False):
        offset = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
        weight = torch.exp(-(offset**2) / (2 * SIGMA**2))
        return (weight / weight.sum()).to(device, dtype)


def photometric_loss(
    render: Tensor, truth: Tensor, ssim_weight: float = 0.2, similarity: Tensor | None = None
) -> Tensor:
    """L_rgb of eq. 12 without its perceptual term: (1 - λ1) L1 + λ1 (1 - SSIM), for images [B, C, H, W] in [0, 1].

    `similarity` is their SSIM map, where the caller has it already.
    """
    similarity = ssim_map(render, truth) if similarity is None else similarity
    mean = similarity.sum() / similarity.numel()  # whose gradient is divided before it is spread, not after
    return (1 - ssim_weight) * l1(render, truth) + ssim_weight * (1 - mean)


def offset_regularisation(
    scale: Tensor, colour: Tensor, scale_weight: float = 1e-2, colour_weight: float = 1e-3
) -> Tensor:
    """L_offset of eq. 13: λ3 mean|δ_s - 1| + λ4 mean|δ_c|.

    Args:
        scale: [..., 3] factors on the Gaussians' scales, after the exponential: 1 changes nothing.
        colour: [..., 3] offsets of the SH DC term, after the tanh: 0 changes nothing.
    """
    return scale_weight * (scale - 1).abs().mean() + colour_weight * colour.abs().mean()


def scale_penalty(log_scale: Tensor, visible: Tensor, exempt: Tensor | None = None, limit: float = 0.6) -> Tensor:
    """L_scale of eq. 14: mean over the visible of ‖relu(exp(s) - 0.6)‖.

    Args:
        log_scale: [N, 3] log-scales in face units.
        visible: [N] or [B, N] bool, Gaussians that the batch's pictures show; each showing counts.
        exempt: [N] bool, Gaussians that stand for hair and shoulders, which no face lies under: left out of the mean.
        limit: in face units; larger Gaussians are pulled back.
    """
    return _mean_over(relu(log_scale.exp() - limit).norm(dim=-1), visible, exempt)


def position_penalty(position: Tensor, visible: Tensor, exempt: Tensor | None = None, limit: float = 1.0) -> Tensor:
    """L_position of eq. 14: mean over the visible of ‖relu(|μ| - 1)‖.

    Args:
        position: [N, 3] centres in face units.
        visible, exempt: as in :func:`scale_penalty`.
        limit: in face units; Gaussians farther out along an axis are pulled back.
    """
    return _mean_over(relu(position.abs() - limit).norm(dim=-1), visible, exempt)


def _mean_over(values: Tensor, visible: Tensor, exempt: Tensor | None) -> Tensor:
    """Mean of `values` [N] over the visible that are not exempt; zero where there are none."""
    counted = visible if exempt is None else visible & ~exempt
    weight = counted.reshape(-1, len(values)).sum(0).to(values.dtype)
    return (weight * values).sum() / weight.sum().clamp_min(1)

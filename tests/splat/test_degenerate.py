"""Gaussians that nothing can be seen of: pictures and gradients stay finite, in every backend that runs here."""

import pytest
import torch
from splat_scenes import draw_and_differentiate, random_scene

from stavatar.camera import Camera

CAMERA = Camera.frontal(1.0, 60.0, 24, 20)
EYE = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
"""Where that camera is; it looks along -z."""
BACKGROUND = torch.tensor([0.2, 0.5, 0.8])

BACKENDS = [("reference", torch.float64), ("reference", torch.float32), ("cpu", torch.float32)]


def changed(**values):
    return random_scene(40) | values


def draw(scene, backend, dtype):
    """The picture, with its and all gradients' finiteness made sure of."""
    view, gradients = draw_and_differentiate(scene, CAMERA, backend, dtype, background=BACKGROUND.to(dtype))
    for name, value in {"image": view.image, "alpha": view.alpha, **gradients}.items():
        assert bool(value.isfinite().all()), name
    return view, gradients


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
@pytest.mark.parametrize("distance", [0.5, 0.0, 1e-9])
def test_behind_the_camera_nothing_is_drawn(backend, dtype, distance):
    """Also in the plane of its centre, and at that very point."""
    means = random_scene(40)["means"]
    means = EYE + (means * torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)) + distance * EYE
    means[0, 0] = EYE
    view, gradients = draw(changed(means=means), backend, dtype)
    torch.testing.assert_close(view.image, BACKGROUND.to(dtype).expand_as(view.image))
    assert view.pixel_counts.sum() == 0 and gradients["means"].abs().sum() == 0


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
def test_some_behind_change_nothing_of_the_others(backend, dtype):
    scene = random_scene(40)
    both = {name: torch.cat([value, value], 1) for name, value in scene.items()}
    both["means"][:, 40:] = 2 * EYE - scene["means"]
    alone, _ = draw(scene, backend, dtype)
    together, _ = draw(both, backend, dtype)
    torch.testing.assert_close(alone.image, together.image)
    assert alone.alpha.max() > 0.5


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
@pytest.mark.parametrize("field", ["opacities", "scales"])
def test_zero_is_a_size_and_an_opacity(backend, dtype, field):
    view, _ = draw(changed(**{field: torch.zeros_like(random_scene(40)[field])}), backend, dtype)
    if field == "opacities":
        torch.testing.assert_close(view.image, BACKGROUND.to(dtype).expand_as(view.image))


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
def test_no_gaussians_are_a_picture_of_the_background(backend, dtype):
    scene = {name: value[:, :0] for name, value in random_scene(40).items()}
    view, _ = draw(scene, backend, dtype)
    torch.testing.assert_close(view.image, BACKGROUND.to(dtype).expand_as(view.image))

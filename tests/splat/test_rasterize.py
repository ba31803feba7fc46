"""The entrance: what it refuses, how it broadcasts and which backend it takes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from splat_scenes import cameras, random_scene
from torch import Tensor

from stavatar.errors import BackendError
from stavatar.splat import rasterize


def inputs(batch: int = 1, count: int = 30) -> dict[str, Tensor]:
    scene = {name: tensor.float() for name, tensor in random_scene(count, batch=batch).items()}
    del scene["extra"]
    return scene


CAMERA = cameras(1, 30, 20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"means": torch.zeros(30, 3)}, r"means must be \[B, \*, 3\], not \[30, 3\]"),
        ({"quaternions": torch.zeros(1, 30, 3)}, r"quaternions must be \[B, 30, 4\], not \[1, 30, 3\]"),
        ({"scales": torch.ones(1, 29, 3)}, r"scales must be \[B, 30, 3\]"),
        ({"opacities": torch.ones(1, 30, 1)}, r"opacities must be \[B, 30\]"),
        ({"colors": torch.ones(1, 30, 4)}, r"colors must be \[B, 30, 3\]"),
        ({"extra": torch.ones(1, 30)}, r"extra must be \[B, 30, \*\]"),
        ({"colors": torch.ones(1, 30, 4, 3), "sh_degree": 2}, "4 coefficients; degree 2 needs 9"),
        ({"colors": torch.ones(1, 30, 25, 3), "sh_degree": 4}, "sh_degree is 4"),
        ({"background": torch.ones(4)}, r"background must be \[3\]"),
        ({"background": torch.ones(3, requires_grad=True)}, "no gradient"),
        ({"camera": replace(CAMERA, focal=CAMERA.focal.clone().requires_grad_())}, "no gradient"),
        ({"opacities": torch.ones(1, 30, dtype=torch.float64)}, "opacities is torch.float64"),
        ({"opacities": torch.ones(2, 30), "camera": cameras(3, 30, 20)}, "do not fit together"),
        ({"backend": "opengl"}, "'opengl'"),
    ],
)
def test_misuse_is_named(change, message) -> None:
    arguments = {**inputs(), "camera": CAMERA, **change}
    with pytest.raises(ValueError, match=message):
        rasterize(**arguments)


def test_cpu_backend_refuses_float64() -> None:
    scene = {name: tensor.double() for name, tensor in inputs().items()}
    with pytest.raises(ValueError, match="float32 only"):
        rasterize(**scene, camera=CAMERA)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")
def test_cuda_backend_without_a_gpu_says_what_to_do() -> None:
    with pytest.raises(BackendError, match="use the cpu backend"):
        rasterize(**inputs(), camera=CAMERA, backend="cuda")


def test_auto_takes_the_cpu_backend_for_tensors_on_the_cpu() -> None:
    scene = inputs()
    automatic, chosen = rasterize(**scene, camera=CAMERA), rasterize(**scene, camera=CAMERA, backend="cpu")
    assert torch.equal(automatic.image, chosen.image)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_shared_tensors_and_cameras_serve_the_whole_batch(backend) -> None:
    """Three poses with shared colours and opacities: as if each were drawn alone, with the gradients added up."""
    posed, shared, views = inputs(batch=3), inputs(), cameras(3, 30, 20)
    shared["opacities"].requires_grad_()
    mixed = {**posed, "opacities": shared["opacities"], "colors": shared["colors"]}
    together = rasterize(**mixed, camera=views, backend=backend)
    together.image.square().sum().backward()
    summed = shared["opacities"].grad.clone()
    shared["opacities"].grad = None
    for scene in range(3):
        alone = {name: (tensor if len(tensor) == 1 else tensor[scene : scene + 1]) for name, tensor in mixed.items()}
        result = rasterize(**alone, camera=views[[scene]], backend=backend)
        torch.testing.assert_close(result.image[0], together.image[scene])
        result.image.square().sum().backward()
    torch.testing.assert_close(shared["opacities"].grad, summed)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_one_scene_seen_by_several_cameras(backend) -> None:
    scene, views = inputs(), cameras(2, 30, 20)
    both = rasterize(**scene, camera=views, backend=backend)
    assert both.image.shape == (2, 20, 30, 3) and both.means2d.shape == (2, 30, 2)
    torch.testing.assert_close(both.image[1], rasterize(**scene, camera=views[[1]], backend=backend).image[0])

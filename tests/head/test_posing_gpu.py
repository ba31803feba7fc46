"""Posing by kernels against the head model itself."""

import pytest
import torch

from stavatar.gpu import has_kernels
from stavatar.head import HeadParameters

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.skipif(not has_kernels(torch.device("cuda")), reason="needs Triton"),
]


@pytest.mark.parametrize("extended", [False, True], ids=["plain", "correctives and moving joints"])
@pytest.mark.parametrize("frames", [1, 19])
def test_vertices_and_joints_are_the_head_models(head, extended, frames):
    import copy

    from stavatar.head._posing_triton import PosedByKernels

    model = copy.deepcopy(head)
    generator = torch.Generator().manual_seed(0)
    if extended:
        model._pose_basis = 0.01 * torch.randn(36, model.template.numel(), generator=generator)
        model._expression_joint_basis = 0.01 * torch.randn(model.expression_count, 5, 3, generator=generator)
    model = model.cuda()
    shape = torch.randn(40, generator=generator).cuda()
    zeros = HeadParameters.zeros(frames, model.expression_count)
    parameters = zeros.map(lambda value: 0.3 * torch.randn(value.shape, generator=generator)).to("cuda")
    parameters = parameters.replaced(neck=1e-4 * parameters.neck)  # where Rodrigues' formula is a series
    truth = model(shape, parameters)
    found, expressed = PosedByKernels(model, shape)(parameters)
    torch.testing.assert_close(found.vertices, truth.vertices, rtol=0, atol=5e-6)
    torch.testing.assert_close(found.joints, truth.joints, rtol=0, atol=5e-6)
    torch.testing.assert_close(expressed, model.unposed(shape, parameters.expression), rtol=0, atol=5e-6)

"""A site of the export tests' avatar."""

import pytest
import torch

from stavatar.export.web.site import export_site


@pytest.fixture(scope="session")
def site(avatar, motion, tmp_path_factory):
    """(folder, content of meta.json)."""
    folder = tmp_path_factory.mktemp("site")
    return folder, export_site(folder, avatar, motion, rank=6)


@pytest.fixture(scope="session")
def poses(motion):
    """Head parameters to try: two recorded frames, and one far outside of what was recorded."""
    far = motion.parameters[[4]]
    generator = torch.Generator().manual_seed(5)
    far = far.replaced(
        expression=torch.rand(far.expression.shape, generator=generator), neck=torch.tensor([[0.3, -0.6, 0.2]])
    )
    return [motion.parameters[[0]], motion.parameters[[9]], far]

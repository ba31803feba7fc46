"""What the export tests share: an avatar whose network and harmonics say something, on disk."""

import dataclasses

import pytest
import torch

from stavatar.avatar.storage import Motion, save_avatar
from stavatar.training.trainer import start_avatar


@pytest.fixture(scope="session")
def motion(small_sequence):
    s = small_sequence
    generator = torch.Generator().manual_seed(3)
    eyes = 0.2 * torch.rand(len(s.parameters), 6, generator=generator) - 0.1
    eyes[:, [2, 5]] = 0
    parameters = s.parameters.replaced(eyes=eyes, rotation=eyes[:, :3] / 2, neck_translation=eyes[:, 3:] / 20)
    return Motion(parameters, s.camera, s.fps, s.train, s.test)


@pytest.fixture(scope="session")
def avatar(small_sequence, head, small_config):
    """Untrained, degree 3; identity, network and harmonics are drawn at random, so that nothing is zero.

    Biases keep most of the network's units active: as a trained one it is then nearly linear around what it was
    trained on, while a random one would be a handful of kinks.
    """
    config = dataclasses.replace(
        small_config, gaussians=dataclasses.replace(small_config.gaussians, sh_degree=3, opacity=0.9)
    )
    generator = torch.Generator().manual_seed(0)
    shape = torch.randn(head.shape_count, generator=generator)
    avatar = start_avatar(dataclasses.replace(small_sequence, shape=shape), head, config)
    torch.nn.init.normal_(avatar.network.fuse_last.weight, 0, 0.05, generator=generator)
    with torch.no_grad():
        for name, parameter in avatar.network.named_parameters():
            if name.endswith("bias") and not name.startswith("fuse_last"):
                parameter.fill_(2.0)
        avatar.gaussians.sh_rest.normal_(0, 0.1, generator=generator)
        avatar.gaussians.quaternion.normal_(generator=generator)
        avatar.gaussians.position.normal_(0, 0.1, generator=generator)
    return avatar.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def folder(avatar, motion, tmp_path_factory):
    """The avatar and its motion on disk."""
    folder = tmp_path_factory.mktemp("avatar")
    save_avatar(avatar, motion, folder)
    return folder

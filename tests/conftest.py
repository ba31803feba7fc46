"""What several tests share: the embedded head, and a small performance of it with known truth."""

import dataclasses
import pickle

import pytest
import torch

from made_up_flame import write_npz
from stavatar import config
from stavatar.avatar.avatar import Avatar, render
from stavatar.avatar.gaussians import BoundGaussians
from stavatar.avatar.runtime import Runtime
from stavatar.avatar.storage import Motion, save_avatar
from stavatar.camera import Camera
from stavatar.head import flame_uv, load_embedded_head, load_flame
from stavatar.head.regions import RegionMasks
from stavatar.head.uv import UVAtlas
from stavatar.sequence import Sequence
from stavatar.synth import render as synth_render
from stavatar.synth._skin import paint_head
from stavatar.training.trainer import start_avatar

SIZE = 64


@pytest.fixture(scope="session", autouse=True)
def people_are_painted_once():
    """Painting an invented person takes seconds, and many tests look at the same ones; the last few are remembered."""
    painted = {}

    def remembered(head, subject):
        key = head.name, head.template.numpy().tobytes(), pickle.dumps(subject)
        if key not in painted:
            if len(painted) == 4:
                del painted[next(iter(painted))]
            painted[key] = paint_head(head, subject)
        return painted[key].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synth_render, "paint_head", remembered)
        yield


@pytest.fixture(scope="session")
def head():
    return load_embedded_head()


@pytest.fixture(scope="session")
def flame_cache_folder(tmp_path_factory):
    """A cache folder for what is computed for FLAME heads."""
    return tmp_path_factory.mktemp("flame-cache")


@pytest.fixture(scope="session")
def flame_file(tmp_path_factory):
    """A made-up head in FLAME's format."""
    return write_npz(tmp_path_factory.mktemp("flame") / "made_up.npz")


@pytest.fixture(scope="session")
def flame_head(flame_file, flame_cache_folder):
    """That head, loaded; its UV layout is not worked out to the end, which nothing but its tests needs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STAVATAR_CACHE", str(flame_cache_folder))
        patch.setattr(flame_uv, "ROUNDS", 3)
        return load_flame(flame_file)


@pytest.fixture(scope="session")
def small_config():
    """The cpu preset, cut down so that a test trains in seconds."""
    preset = config.preset("cpu")
    return dataclasses.replace(
        preset,
        capture=dataclasses.replace(preset.capture, size=SIZE),
        network=dataclasses.replace(preset.network, uv_size=32, width=0.125),
        gaussians=dataclasses.replace(preset.gaussians, seeds=50),
        training=dataclasses.replace(preset.training, steps=12),
    )


def painted_avatar(head, config):
    """An avatar with coloured patches all over, hard bound: what small sequences show."""
    atlas = UVAtlas.build(head, config.network.uv_size)
    waves = 60 * head.template[head.faces].mean(1)
    colors = 0.5 + 0.4 * torch.sin(waves + torch.tensor([0.0, 2.0, 4.0]))
    gaussians = BoundGaussians.one_per_face(dataclasses.replace(config.gaussians, opacity=0.9), colors, atlas)
    return Avatar(
        dataclasses.replace(config, network=dataclasses.replace(config.network, enabled=False)),
        head,
        torch.zeros(head.shape_count),
        gaussians,
        seen=head.neutral(),
        reference=head.neutral(),
        image=torch.zeros(3, SIZE, SIZE),
        atlas=atlas,
        masks=RegionMasks.build(head, atlas).masks,
    )


def made_motion(head):
    """Ten frames: the head turns and nods, the mouth opens, the torso sways by millimetres."""
    frames = 10
    phase = torch.linspace(0, 3, frames)
    parameters = head.neutral(frames)
    neck = torch.stack([0.1 * torch.sin(2 * phase), 0.2 * torch.sin(phase), 0.05 * torch.cos(phase)], 1)
    opened = 0.3 + 0.3 * torch.sin(4 * phase)
    expression, jaw = parameters.expression.clone(), parameters.jaw.clone()
    if head.jaw_by_expression:
        expression[:, head.expression_names.index("jawOpen")] = opened
    else:
        jaw[:, 0] = 0.4 * opened
        expression[:, 0] = torch.sin(3 * phase)
    middle = head.template.mean(0)
    sway = torch.stack([0.004 * torch.sin(phase), 0.002 * torch.cos(phase), 0 * phase], 1) - middle
    return parameters.replaced(neck=neck, expression=expression, jaw=jaw, translation=sway)


def filmed(avatar, motion):
    """The motion, rendered; the last two frames are held out."""
    camera = Camera.frontal(1.0, 2.0 * SIZE, SIZE, SIZE)
    with torch.no_grad():
        view = render(avatar(motion), camera)
    frames = len(motion)
    return Sequence(
        name="small",
        head_model=avatar.head.name,
        shape=torch.zeros(avatar.head.shape_count),
        parameters=motion,
        camera=camera,
        images=(view.image.clamp(0, 1) * 255).round().to(torch.uint8),
        masks=(view.alpha.clamp(0, 1) * 255).round().to(torch.uint8),
        frame_ids=torch.arange(frames),
        train=torch.arange(frames - 2),
        test=torch.arange(frames - 2, frames),
        fps=25.0,
    )


@pytest.fixture(scope="session")
def true_avatar(head, small_config):
    return painted_avatar(head, small_config)


@pytest.fixture(scope="session")
def true_motion(head):
    return made_motion(head)


@pytest.fixture(scope="session")
def small_sequence(true_avatar, true_motion):
    """A small performance of the embedded head."""
    return filmed(true_avatar, true_motion)


@pytest.fixture(scope="session")
def flame_sequence(flame_head, small_config):
    """The same of the made-up FLAME head."""
    return filmed(painted_avatar(flame_head, small_config), made_motion(flame_head))


@pytest.fixture(scope="session")
def small_avatar(small_sequence, head, small_config):
    """An untrained avatar of the small sequence, whose network nevertheless says something."""
    avatar = start_avatar(small_sequence, head, small_config)
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(avatar.network.fuse_last.weight, 0, 0.1, generator=generator)
    return avatar.eval()


@pytest.fixture(scope="session")
def small_motion(small_sequence):
    sequence = small_sequence
    return Motion(sequence.parameters, sequence.camera, sequence.fps, sequence.train, sequence.test)


@pytest.fixture(scope="session")
def small_runtime(small_avatar, small_motion):
    return Runtime(small_avatar, small_motion)


@pytest.fixture(scope="session")
def small_avatar_folder(small_avatar, small_motion, tmp_path_factory):
    """The small avatar on disk."""
    folder = tmp_path_factory.mktemp("avatars") / "small"
    save_avatar(small_avatar, small_motion, folder)
    return folder

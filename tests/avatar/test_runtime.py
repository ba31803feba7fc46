"""The avatar at work."""

import copy
from importlib.util import find_spec

import pytest
import torch

from stavatar.avatar.avatar import render
from stavatar.avatar.runtime import Runtime
from stavatar.avatar.storage import load_motion
from stavatar.errors import InputError
from stavatar.head.posing import JOINTS


def test_it_draws_what_the_avatar_draws(small_runtime, small_avatar, small_motion):
    """Keeping the static features changes nothing, and bfloat16, where the CPU has it, next to nothing."""
    with torch.no_grad():
        expected = render(small_avatar(small_motion.parameters[[3]]), small_motion.camera).image
        hard = render(small_avatar(small_motion.parameters[[3]], soft=False), small_motion.camera).image
    assert (small_runtime.render(small_runtime.frame(3)).image - expected).abs().mean() < 1e-4
    assert torch.equal(small_runtime.render(small_runtime.frame(3), soft=False).image, hard)
    assert not torch.equal(expected, hard)


def test_size_background_and_camera_are_the_callers(small_runtime, small_motion):
    camera = small_motion.camera.around(small_runtime.pivot, 0.5, 0.0)
    drawn = small_runtime.render(small_runtime.frame(0), camera, size=40, background=torch.tensor([0.0, 0.0, 1.0]))
    assert drawn.image.shape == (1, 40, 40, 3)
    torch.testing.assert_close(drawn.image[0, 0, 0], torch.tensor([0.0, 0.0, 1.0]))
    straight = small_runtime.render(small_runtime.frame(0), size=40, background=torch.tensor([0.0, 0.0, 1.0]))
    assert (straight.image - drawn.image).abs().mean() > 0.01


def test_the_pivot_is_the_mean_neck_joint(small_runtime, small_avatar, small_motion):
    joints = small_avatar.head(small_avatar.shape, small_motion.parameters).joints
    torch.testing.assert_close(small_runtime.pivot, joints[:, JOINTS.index("neck")].mean(0))


def test_expressions_are_set_by_name(small_runtime):
    pose = small_runtime.frame(-1)
    changed = small_runtime.express(pose, jawOpen=0.9, mouthSmileLeft=0.2)
    names = small_runtime.expression_names
    assert changed.expression[0, names.index("jawOpen")] == pytest.approx(0.9)
    assert changed.expression[0, names.index("mouthSmileLeft")] == pytest.approx(0.2)
    others = [i for i, name in enumerate(names) if name not in ("jawOpen", "mouthSmileLeft")]
    assert torch.equal(changed.expression[:, others], pose.expression[:, others])
    assert pose.expression[0, names.index("mouthSmileLeft")] == 0, "the recorded pose stays as it is"
    with pytest.raises(InputError, match="no expression 'jawopen'"):
        small_runtime.express(pose, jawopen=1.0)


def test_frames_beyond_the_motion_are_refused(small_runtime):
    assert torch.equal(small_runtime.frame(-10).neck, small_runtime.frame(0).neck)
    for index in (10, -11):
        with pytest.raises(InputError, match="has 10"):
            small_runtime.frame(index)


def test_an_avatar_and_its_run_load_alike(small_avatar_folder, small_runtime, tmp_path):
    (tmp_path / "avatar").symlink_to(small_avatar_folder)
    expected = small_runtime.render(small_runtime.frame(2)).image
    for path in (small_avatar_folder, tmp_path):
        loaded = Runtime.load(path)
        assert torch.equal(loaded.render(loaded.frame(2)).image, expected)


def test_a_motion_is_read_without_its_avatar(small_avatar_folder, small_motion, head):
    name, motion = load_motion(small_avatar_folder)
    assert name == head.name
    for (_, found), (_, expected) in zip(motion.parameters.items(), small_motion.parameters.items(), strict=True):
        assert torch.equal(found, expected)
    with pytest.raises(InputError, match="is not an avatar"):
        load_motion(small_avatar_folder.parent / "nobody")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.skipif(find_spec("gsplat") is None, reason="needs gsplat: pip install stavatar[cuda]")
@pytest.mark.timeout(900)  # the first call compiles gsplat
def test_on_a_gpu_it_replays_what_the_avatar_draws(small_avatar, small_motion):
    """One frame and several, near and far, again and again: the picture is that of the ordinary way."""
    avatar = copy.deepcopy(small_avatar).cuda()
    runtime = Runtime(copy.deepcopy(avatar), small_motion)
    near = small_motion.camera.around(runtime.pivot, 0.2, 0.1, 0.3)
    for frames in ([3], [1, 2, 3], [4], [5], [6, 7, 8], [2, 0, 1]):
        for camera in (small_motion.camera, near):
            for soft in (True, False):
                pose = small_motion.parameters[frames]
                with torch.no_grad():
                    posed = avatar(pose.to("cuda"), soft=soft)
                    truth = render(posed, camera.to("cuda"))
                drawn = runtime.render(pose, camera, soft=soft)
                assert (drawn.image - truth.image).abs().mean() < 1e-3
                assert (drawn.alpha - truth.alpha).abs().mean() < 1e-3
                replayed = runtime.pose(pose, soft=soft)
                torch.testing.assert_close(replayed.means, posed.means, rtol=0, atol=2e-4)
                assert (replayed.offsets is None) == (posed.offsets is None)
                torch.testing.assert_close(replayed.mesh.vertices, posed.mesh.vertices, rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.skipif(find_spec("gsplat") is None, reason="needs gsplat: pip install stavatar[cuda]")
def test_a_picture_handed_out_stays_as_it_is(small_avatar, small_motion):
    runtime = Runtime(copy.deepcopy(small_avatar).cuda(), small_motion)
    pictures = [runtime.render(small_motion.parameters[[frame]]).image for frame in (0, 1, 2, 3)]
    kept = [picture.clone() for picture in pictures]
    runtime.render(small_motion.parameters[[9]])
    for picture, copied in zip(pictures, kept, strict=True):
        assert torch.equal(picture, copied)
    assert not torch.equal(pictures[2], pictures[3])

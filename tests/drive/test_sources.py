"""What an avatar can be driven by, and the whole way to a file."""

import av
import pytest
import torch

from stavatar import pipeline
from stavatar.drive import Retargeting, load_driver
from stavatar.errors import InputError
from stavatar.rotations import axis_angle_to_matrix
from stavatar.sequence import write_sequence

CPU = torch.device("cpu")


def test_sequences_and_avatars_give_the_same_motion(small_sequence, small_avatar_folder, tmp_path):
    write_sequence(small_sequence, tmp_path / "run" / "sequence")
    turns = axis_angle_to_matrix(small_sequence.parameters.neck)
    for path in (tmp_path / "run", tmp_path / "run" / "sequence", small_avatar_folder):
        driver = load_driver(path)
        torch.testing.assert_close(driver.expression, small_sequence.parameters.expression)
        torch.testing.assert_close(driver.head, turns, atol=1e-5, rtol=0)
        assert driver.fps == 25
    assert load_driver(tmp_path / "run").images is not None
    # A finished run: the avatar's motion, and the sequence's pictures where they are wanted.
    (tmp_path / "run" / "avatar").symlink_to(small_avatar_folder)
    assert load_driver(tmp_path / "run").images is None
    assert torch.equal(load_driver(tmp_path / "run", pictures=True).images, small_sequence.images)


def test_what_is_nothing_of_the_kind_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist: give a sequence"):
        load_driver(tmp_path / "nobody")
    with pytest.raises(InputError, match="holds no data in a format"):
        load_driver(tmp_path)


def test_driving_writes_a_video_of_every_frame(small_avatar_folder, small_sequence, tmp_path):
    write_sequence(small_sequence, tmp_path / "sequence")
    out = tmp_path / "out.mp4"
    pipeline.drive_motion(
        small_avatar_folder,
        tmp_path / "sequence",
        out,
        options=Retargeting(head_motion=True),
        size=48,
        beside=True,
        device=CPU,
    )
    with av.open(str(out)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(48, 96, 3)] * len(small_sequence)
    with pytest.raises(InputError, match="leave out --beside"):
        pipeline.drive_motion(
            small_avatar_folder,
            small_avatar_folder,
            tmp_path / "no.mp4",
            options=Retargeting(),
            beside=True,
            device=CPU,
        )
    assert not (tmp_path / "no.mp4").exists()


def test_a_video_that_would_be_refused_is_not_tracked_first(tmp_path, monkeypatch):
    from stavatar.drive import sources

    def refuse(name, head_model, names):
        assert (name, head_model) == ("face.mp4", "embedded-1")
        assert "jawOpen" in names
        raise InputError("another head")

    (tmp_path / "face.mp4").touch()
    monkeypatch.setattr(sources, "capture", lambda *_, **__: pytest.fail("tracked"))
    with pytest.raises(InputError, match="another head"):
        load_driver(tmp_path / "face.mp4", accept=refuse)

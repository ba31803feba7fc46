"""Motion as tables."""

import csv

import numpy as np
import pytest
import torch

from stavatar.errors import InputError
from stavatar.export import export_motion
from stavatar.export.motion import (
    LIVE_LINK_ANGLES,
    LIVE_LINK_BLENDSHAPES,
    PITCH_AT_FULL,
    YAW_AT_FULL,
    timecode,
    write_motion_csv,
    yaw_pitch_roll,
)
from stavatar.head import HeadParameters
from stavatar.rotations import axis_angle_to_matrix
from stavatar.tracking import blendshapes


@pytest.fixture(scope="module")
def table(folder, tmp_path_factory):
    """The CSV as its reader sees it: a list of name -> text."""
    path = tmp_path_factory.mktemp("motion") / "motion.csv"
    export_motion(folder, path)
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_npz_holds_every_parameter(folder, avatar, motion, tmp_path):
    export_motion(folder, tmp_path / "motion.npz")
    with np.load(tmp_path / "motion.npz", allow_pickle=False) as data:
        back = HeadParameters(**{name: torch.from_numpy(data[name]) for name, _ in motion.parameters.items()})
        assert data["expression_names"].tolist() == avatar.head.expression_names
        assert data["fps"] == motion.fps
        assert data["test"].tolist() == motion.test.tolist()
        np.testing.assert_array_equal(data["shape"], avatar.shape.numpy())
        np.testing.assert_array_equal(data["world_to_camera"], motion.camera.world_to_camera.numpy())
    for name, value in motion.parameters.items():
        assert torch.equal(getattr(back, name), value), name


def test_csv_has_the_columns_of_live_link_face(table, motion):
    assert list(table[0]) == ["Timecode", "BlendShapeCount", *LIVE_LINK_BLENDSHAPES, *LIVE_LINK_ANGLES]
    assert len(set(LIVE_LINK_BLENDSHAPES)) == 52
    assert {row["BlendShapeCount"] for row in table} == {"61"}
    assert len(table) == len(motion.parameters)
    assert [row["Timecode"] for row in table[:2]] == ["00:00:00:00.000", "00:00:00:01.000"]


def test_csv_coefficients_are_the_expressions_of_the_same_name(table, head, motion):
    for name in ("JawOpen", "MouthSmileLeft", "TongueOut"):
        index = head.expression_names.index(name[0].lower() + name[1:])
        found = np.array([float(row[name]) for row in table])
        np.testing.assert_allclose(found, motion.parameters.expression[:, index], atol=1e-7)
    assert float(table[0]["JawOpen"]) > 0.2


def test_gaze_can_be_read_from_the_look_coefficients(table, motion):
    """As whoever drives an avatar with the file does: outwards minus inwards, down minus up."""
    for side, columns, outwards in (("Left", slice(0, 3), 1), ("Right", slice(3, 6), -1)):

        def column(way, side=side):
            return np.array([float(row[f"EyeLook{way}{side}"]) for row in table])

        yaw = outwards * YAW_AT_FULL * (column("Out") - column("In"))
        pitch = PITCH_AT_FULL * (column("Down") - column("Up"))
        expected = yaw_pitch_roll(axis_angle_to_matrix(motion.parameters.eyes[:, columns])).numpy()
        np.testing.assert_allclose(yaw, expected[:, 0], atol=1e-6)
        np.testing.assert_allclose(pitch, expected[:, 1], atol=1e-6)
        assert np.abs(yaw).max() > 0.02


def test_the_tracker_reads_gaze_from_coefficients_in_the_same_way():
    assert (YAW_AT_FULL, PITCH_AT_FULL) == (blendshapes.YAW_AT_FULL, blendshapes.PITCH_AT_FULL)


def test_head_angles_are_those_of_the_skull(table, motion):
    angles = torch.tensor([[float(row[f"Head{name}"]) for name in ("Yaw", "Pitch", "Roll")] for row in table])
    zero = torch.zeros(len(angles))
    yaw, pitch, roll = angles.unbind(1)
    about_y, about_x, about_z = (
        axis_angle_to_matrix(torch.stack(axes, 1))
        for axes in ((zero, yaw, zero), (pitch, zero, zero), (zero, zero, roll))
    )
    p = motion.parameters
    expected = axis_angle_to_matrix(p.rotation) @ axis_angle_to_matrix(p.neck)
    torch.testing.assert_close(about_y @ about_x @ about_z, expected, atol=1e-5, rtol=0)


def test_positive_yaw_turns_left_and_positive_pitch_nods_down():
    left, down = axis_angle_to_matrix(torch.tensor([[0.0, 0.3, 0.0], [0.2, 0.0, 0.0]]))
    torch.testing.assert_close(yaw_pitch_roll(left), torch.tensor([0.3, 0.0, 0.0]))
    torch.testing.assert_close(yaw_pitch_roll(down), torch.tensor([0.0, 0.2, 0.0]))


@pytest.mark.parametrize(
    ("frame", "fps", "expected"),
    [
        (0, 25.0, "00:00:00:00.000"),
        (26, 25.0, "00:00:01:01.000"),
        (25 * 3661, 25.0, "01:01:01:00.000"),
        (30, 29.97, "00:00:01:00.030"),  # 30 frames take 1.001 seconds
    ],
)
def test_timecodes_count_frames(frame, fps, expected):
    assert timecode(frame, fps) == expected


def test_heads_without_arkit_names_are_refused(head, motion, tmp_path):
    other = type("Head", (), {"name": "other-1", "expression_names": [f"expression{i}" for i in range(52)]})()
    with pytest.raises(InputError, match=r"other-1 has no ARKit expressions.*npz"):
        write_motion_csv(tmp_path / "a.csv", other, motion)

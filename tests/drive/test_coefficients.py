"""Recordings of ARKit coefficients."""

import numpy as np
import pytest
import torch

from stavatar.drive.coefficients import read_coefficients
from stavatar.errors import InputError


@pytest.fixture(scope="module")
def names(head):
    return tuple(head.expression_names)


def pascal(name):
    return name[0].upper() + name[1:]


def recording(path, names, frames=130, rate=60, **columns):
    """As the app writes it: timecodes at `rate`, starting 10 frames before a full second."""
    values = np.zeros((frames, len(names)))
    for name, column in columns.items():
        values[:, names.index(name)] = column
    lines = ["Timecode,BlendShapeCount," + ",".join(map(pascal, names)) + ",HeadYaw,HeadPitch,HeadRoll"]
    for index, row in enumerate(values):
        count = index + rate - 10
        code = f"09:59:{58 + count // rate:02d}:{count % rate:02d}.{index % 1000:03d}"
        lines.append(f"{code},61," + ",".join(f"{value:.6f}" for value in row) + ",0.1,0.2,0.3")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_columns_find_their_names_whatever_their_case(tmp_path, names):
    ramp = np.linspace(0, 0.9, 130)
    driver = read_coefficients(recording(tmp_path / "take.csv", names, jawOpen=ramp, eyeBlinkRight=0.25), names)
    assert driver.head_model is None
    assert driver.head is None
    torch.testing.assert_close(driver.expression[:, names.index("jawOpen")], torch.from_numpy(ramp).float())
    assert driver.expression[:, names.index("eyeBlinkRight")].eq(0.25).all()
    assert driver.expression[:, names.index("eyeBlinkLeft")].eq(0).all()


@pytest.mark.parametrize("rate", [24, 25, 30, 60])
def test_the_rate_is_read_off_the_timecodes(tmp_path, names, rate):
    assert read_coefficients(recording(tmp_path / "take.csv", names, rate=rate), names).fps == rate


def test_the_rate_is_read_off_seconds(tmp_path, names):
    rows = [",".join(["time", *names])]
    rows += [",".join([f"{index / 29.97:.4f}"] + ["0"] * len(names)) for index in range(50)]
    path = tmp_path / "take.csv"
    path.write_text("\ufeff" + "\r\n".join(rows) + "\r\n\r\n")
    driver = read_coefficients(path, names)
    assert driver.fps == 30
    assert len(driver) == 50


def test_a_given_rate_comes_first(tmp_path, names):
    assert read_coefficients(recording(tmp_path / "take.csv", names), names, fps=48).fps == 48


def test_gaze_follows_the_look_coefficients(tmp_path, names):
    """Looking out with the left eye and in with the right is to the subject's left: positive about y."""
    look = {"eyeLookOutLeft": 0.8, "eyeLookInRight": 0.8, "eyeLookDownLeft": 0.5, "eyeLookDownRight": 0.5}
    driver = read_coefficients(recording(tmp_path / "take.csv", names, **look), names)
    assert (driver.eyes[:, [1, 4]] > 0.2).all()
    assert (driver.eyes[:, [0, 3]] > 0.1).all()
    torch.testing.assert_close(driver.eyes[:, :3], driver.eyes[:, 3:])


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("letter", "columns named as ARKit's"),
        ("one line", "holds no frames"),
        ("a word", "frame 3: JawOpen is not a number"),
        ("short row", "frame 5: .* is not a number"),
        ("infinite", "frame 3: JawOpen is not finite"),
        ("no times", "give them with --fps"),
        ("binary", "cannot be read as CSV"),
        ("missing", "does not exist"),
    ],
)
def test_files_that_are_something_else_are_named(tmp_path, names, fault, complaint):
    path = recording(tmp_path / "take.csv", names)
    lines = path.read_text().splitlines()
    jaw = lines[0].split(",").index("JawOpen")
    if fault == "letter":
        path.write_text("Dear all,\nsee you on Monday\n")
    elif fault == "one line":
        path.write_text(lines[0])
    elif fault in ("a word", "infinite"):
        cells = lines[3].split(",")
        cells[jaw] = "wide" if fault == "a word" else "inf"
        path.write_text("\n".join([*lines[:3], ",".join(cells), *lines[4:]]))
    elif fault == "short row":
        path.write_text("\n".join([*lines[:5], "00:00:00:00.000,61,0.1", *lines[6:]]))
    elif fault == "no times":
        path.write_text("\n".join(line.partition(",")[2] for line in lines))
    elif fault == "binary":
        path.write_bytes(b"\xff\xfe\x00\x01" * 100)
    elif fault == "missing":
        path.unlink()
    with pytest.raises(InputError, match=complaint):
        read_coefficients(path, names)

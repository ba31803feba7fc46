"""``results.json``: complete, strict, and honest about what is missing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import stavatar
from stavatar.camera import Camera
from stavatar.evaluation import results
from stavatar.evaluation.evaluate import Metrics
from stavatar.evaluation.results import Measured
from stavatar.files import write_json
from stavatar.head.parameters import HeadParameters
from stavatar.sequence import Sequence


@pytest.fixture
def sequence() -> Sequence:
    return Sequence(
        name="someone",
        head_model="embedded-1",
        shape=torch.zeros(1),
        parameters=HeadParameters.zeros(10, 1),
        camera=Camera.frontal(1, 10, 6, 4),
        images=torch.zeros(10, 4, 6, 3, dtype=torch.uint8),
        masks=torch.zeros(10, 4, 6, dtype=torch.uint8),
        frame_ids=torch.arange(10),
        train=torch.tensor([0, 1, 2, 4, 5, 6]),
        test=torch.tensor([7, 8, 9]),
        fps=25,
        history={"tracker": "landmarks-1"},
    )


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(
        values={"psnr": 30.0, "ssim": 0.9, "l1": 0.02, "lpips_alex": 0.05, "lpips_vgg": None, "lpips_alex_01": 0.04},
        regions={"head": {"psnr": 28.0, "l1": 0.03, "frames": 3}},
        missing={"lpips_vgg": "no weights here"},
        frames=[7, 8, 9],
        per_frame={"psnr": [29.0, 30.0, 31.0], "lpips_alex": [0.04, None, 0.06]},
        lpips_frames=2,
    )


def assemble(sequence: Sequence, metrics: Metrics) -> dict:
    consistency = {"expression": 0.03, "pose_degrees": 1.5, "face_shape_percent": 2.0, "identity": None, "frames": 3}
    return results.assemble_results(
        sequence=sequence,
        measured=Measured(
            metrics=metrics,
            as_tracked=metrics,
            speed={"single_fps": 100.0, "batched_fps": 300.0},
            reenactment={"self": consistency, "cross": None},
            missing={"identity": "no network here"},
        ),
        test_tracking="photometric, against the finished avatar",
        preset="cpu",
        seed=7,
        gaussians=11600,
        stage_seconds={"tracking": 4.5},
        device="cpu",
    )


def test_holds_what_a_reader_needs(sequence: Sequence, metrics: Metrics, tmp_path: Path) -> None:
    write_json(tmp_path / "results.json", assemble(sequence, metrics))
    read = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert read["metrics"] == {
        "psnr": 30.0,
        "ssim": 0.9,
        "l1": 0.02,
        "lpips_alex": 0.05,
        "lpips_vgg": None,
        "lpips_alex_01": 0.04,
        "frames": 3,
        "lpips_frames": "2 of 3",
    }
    assert read["metrics_as_tracked"] == read["metrics"]
    assert read["metrics_regions"] == {"head": {"psnr": 28.0, "l1": 0.03, "frames": 3}}
    assert set(read["region_definitions"]) == {"head", "mouth", "mouth_interior", "eyes", "hair"}
    assert read["metrics_missing"] == {"lpips_vgg": "no weights here", "identity": "no network here"}
    assert read["reenactment"]["self"]["pose_degrees"] == 1.5 and read["reenactment"]["cross"] is None
    assert read["speed"]["batched_fps"] == 300
    assert (read["head_model"], read["tracker"]) == ("embedded-1", "landmarks-1")
    assert {*read["metrics"]} - {"frames", "lpips_frames"} <= {*read["metric_definitions"]}
    assert read["per_frame"] == {"frame": [7, 8, 9], "psnr": [29.0, 30.0, 31.0], "lpips_alex": [0.04, None, 0.06]}
    assert read["test_tracking"].startswith("photometric")
    assert (read["preset"], read["seed"], read["gaussians"]) == ("cpu", 7, 11600)
    assert read["stage_seconds"] == {"tracking": 4.5} and read["history"] == {"tracker": "landmarks-1"}
    assert read["metric_definitions"]["lpips_vgg"]["network"] == "vgg16"
    assert read["metric_definitions"]["lpips_vgg"]["input_range"] == "[-1, 1]"
    assert read["metric_definitions"]["lpips_alex_01"]["input_range"] == "[0, 1]"


def test_protocol_is_that_of_the_sequence(sequence: Sequence, metrics: Metrics) -> None:
    protocol = json.loads(json.dumps(assemble(sequence, metrics)["protocol"]))
    assert protocol["split"] == "3 of 9 usable frames are held out, the last ones"
    assert (protocol["holdout"], protocol["train_frames"], protocol["unusable_frames"]) == (3, 6, 1)
    assert protocol["size"] == [6, 4]
    assert protocol["name"] == "custom" and protocol["deviations"] == [] and protocol["frame_step"] == 1
    assert "whole pictures" in protocol["mask"] and protocol["background"].startswith("white")


def test_held_out_frames_in_between_are_not_called_the_last(sequence: Sequence, metrics: Metrics) -> None:
    mixed = dataclasses.replace(sequence, train=sequence.test, test=sequence.train, frame_ids=2 * sequence.frame_ids)
    protocol = assemble(mixed, metrics)["protocol"]
    assert protocol["split"] == "6 of 9 usable frames are held out, as the data set says"
    assert protocol["frame_step"] == 2


def test_a_cpu_has_no_gpu_memory(sequence: Sequence, metrics: Metrics) -> None:
    assert assemble(sequence, metrics)["peak_gpu_memory_mb"] is None


def test_memory_and_versions_are_those_of_this_process() -> None:
    peak = results.peak_memory_mb()
    assert peak is None or 50 < peak < 1 << 20, "torch alone takes more than 50 MiB"
    found = results.versions()
    assert found["torch"] == torch.__version__ or str(torch.__version__).startswith(str(found["torch"]))
    assert found["stavatar"] == stavatar.__version__
    assert set(found) >= {"stavatar", "numpy", "numba", "mediapipe", "python", "platform", "device", "commit"}


def test_the_commit_is_that_of_a_checkout_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(results.__file__).resolve().parents[3]
    commit = results._commit()
    if (root / ".git").exists() and commit is not None:
        assert len(commit.removesuffix("-dirty")) == 40 and int(commit.removesuffix("-dirty"), 16) >= 0
    # Installed in an environment inside of somebody's repository: that repository's commit says nothing of us.
    installed = tmp_path / "lib" / "site-packages" / "stavatar" / "evaluation"
    installed.mkdir(parents=True)
    (tmp_path / "lib" / ".git").mkdir()
    monkeypatch.setattr(results, "__file__", str(installed / "results.py"))
    assert results._commit() is None

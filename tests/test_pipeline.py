"""The stages put together: a tracked sequence to a measured avatar, interruptions, and other views."""

from __future__ import annotations

import dataclasses
import json
import sys

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from stavatar import cli, pipeline
from stavatar.avatar.avatar import render
from stavatar.avatar.runtime import Runtime
from stavatar.avatar.storage import TENSORS, load_avatar
from stavatar.capture.faces import FaceReadings
from stavatar.errors import BackendError, InputError
from stavatar.evaluation import measure, speed
from stavatar.evaluation.results_file import read_results
from stavatar.refinement import refine
from stavatar.rendering import CameraMove
from stavatar.run import Run
from stavatar.sequence import read_sequence, write_sequence
from stavatar.training import checkpoint
from stavatar.training.trainer import Trainer

CPU = torch.device("cpu")
STEPS = 3


@pytest.fixture(scope="module")
def settings(small_config):
    """A few steps with a checkpoint after each. (That pose passes can be resumed is tested with the trainer.)"""
    return dataclasses.replace(
        small_config,
        pose=dataclasses.replace(small_config.pose, passes=(), iterations=1),
        training=dataclasses.replace(small_config.training, steps=STEPS, checkpoint_seconds=0.0),
    )


@pytest.fixture(scope="module")
def short(small_sequence):
    """Six frames of the small sequence, two of them held out."""
    return dataclasses.replace(
        small_sequence,
        parameters=small_sequence.parameters[:6],
        images=small_sequence.images[:6],
        masks=small_sequence.masks[:6],
        frame_ids=torch.arange(6),
        train=torch.arange(4),
        test=torch.tensor([4, 5]),
    )


@pytest.fixture(scope="module")
def source(short, tmp_path_factory):
    """The short sequence on disk."""
    folder = tmp_path_factory.mktemp("source") / "sequence"
    write_sequence(short, folder)
    return folder


@pytest.fixture(scope="module")
def no_assets(tmp_path_factory):
    """No LPIPS weights, which would take most of the time: its metrics are then missing, and said to be.

    Speed is measured with few repeats.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "REPEATS", 2)
        patch.setenv("STAVATAR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def finished(source, settings, no_assets, tmp_path_factory):
    """A run from start to end without interruption."""
    return pipeline.train_sequence(source, tmp_path_factory.mktemp("runs") / "run", settings, device=CPU)


def decoded(path) -> tuple[np.ndarray, float]:
    """Frames [T, H, W, 3] uint8 and frames per second of a video."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]), float(
            stream.average_rate
        )


# ------------------------------------------------------------------------------------------------------ results


def test_results_hold_what_a_reader_needs(finished, short):
    results = read_results(finished.results)  # every field that pages and tables need, of its type
    assert results["protocol"]["holdout"] == len(short.test)
    assert results["protocol"]["name"] == "custom" and results["head_model"] == short.head_model
    assert results["speed"]["single_fps"] > 0 and results["speed"]["batched_fps"] > 0
    assert results["reenactment"] == {"self": None, "cross": None}, "the landmarker's file is missing in this test"
    assert "face_landmarker" in results["metrics_missing"]["expression"]
    assert results["protocol"]["train_frames"] == len(short.train)
    for name in ("metrics", "metrics_as_tracked"):
        assert {"psnr", "ssim", "lpips_alex", "lpips_vgg", "lpips_alex_01"} <= set(results[name])
        assert results[name]["frames"] == len(short.test)
        assert 5 < results[name]["psnr"] < 100
        assert 0 < results[name]["ssim"] < 1
    assert results["metrics"]["psnr"] != results["metrics_as_tracked"]["psnr"]
    regions = results["metrics_regions"]
    assert set(regions) == {"head", "mouth", "mouth_interior", "eyes", "hair"}
    for name in ("head", "mouth", "eyes"):
        assert regions[name]["frames"] == len(short.test) and regions[name]["psnr"] > 5
    assert "aligned to the finished avatar" in results["test_tracking"]
    assert "lpips_vgg" in results["metrics_missing"]
    assert results["metrics"]["lpips_vgg"] is None
    assert results["gaussians"] == len(load_avatar(finished.avatar)[0].gaussians)
    assert set(results["stage_seconds"]) == {"tracking", "training", "held_out_tracking", "evaluation"}
    assert results["peak_memory_mb"] is None or results["peak_memory_mb"] > 50
    assert results["versions"]["torch"] == torch.__version__


def test_a_rendered_sequence_is_trained_on_with_its_true_poses(settings, no_assets, tmp_path):
    """From `synth --sequence` to results without landmarks, tracking or alignment."""
    folder = tmp_path / "truth"
    size = settings.capture.size
    assert (
        pipeline.synthesise(None, frames=6, size=size, seed=0, noise=0.0, style="expressive", sequence=folder) is None
    )
    known = dataclasses.replace(settings, pose=dataclasses.replace(settings.pose, refine=False))
    run = pipeline.train_sequence(folder, tmp_path / "run", known, device=CPU)

    results = json.loads(run.results.read_text())
    assert results["metrics_as_tracked"] is None
    assert "nothing was refined or aligned" in results["test_tracking"]
    assert "ground truth" in results["history"]["tracker"]
    motion = load_avatar(run.avatar)[1]
    for (name, value), (_, true) in zip(
        motion.parameters.items(), read_sequence(folder).parameters.items(), strict=True
    ):
        assert torch.equal(value, true), name
    with pytest.raises(InputError, match="already holds a sequence"):
        pipeline.synthesise(None, frames=6, size=size, seed=0, noise=0.0, sequence=folder)


def test_a_finished_run_holds_these_files_and_no_others(finished):
    assert sorted(path.name for path in finished.folder.iterdir()) == [
        "avatar",
        "clusters.json",
        "config.yaml",
        "contact_sheet.png",
        "curve.json",
        "density.json",
        "inputs.json",
        "pictures",
        "report.html",
        "results.json",
        "sequence",
        "side_by_side.mp4",
        "stages.json",
    ]


def test_pictures_open_and_show_the_held_out_frames(finished, short):
    with Image.open(finished.contact_sheet) as sheet:
        sheet.load()
        assert sheet.height > 3 * short.height
    frames, fps = decoded(finished.side_by_side)
    assert len(frames) == len(short.test)
    assert fps == pytest.approx(short.fps)
    assert frames.shape[2] == 3 * short.width
    band = frames.shape[1] - short.height
    shown = torch.from_numpy(frames[:, band:, : short.width]).float()
    truth = short.images[short.test].float()
    assert (shown - truth).abs().mean() < 8  # 4:2:0 colours blur an image of 64 pixels


def test_the_recorded_motion_is_that_of_photometric_tracking(finished, short):
    """Held-out frames were moved by tracking in head and torso pose, and in nothing else."""
    _, motion = load_avatar(finished.avatar)
    tracked, test = short.parameters, short.test
    assert motion.test.tolist() == test.tolist()
    assert motion.train.tolist() == short.train.tolist()
    assert not torch.equal(motion.parameters.neck[test], tracked.neck[test])
    for name in ("expression", "eyes", "jaw"):
        torch.testing.assert_close(getattr(motion.parameters, name)[test], getattr(tracked, name)[test])


def test_measuring_again_finds_the_same(finished, no_assets):
    before = json.loads(finished.results.read_text())
    pipeline.evaluate(finished, device=CPU)
    after = json.loads(finished.results.read_text())
    assert after["metrics"] == before["metrics"]
    assert after["per_frame"] == before["per_frame"]


def test_the_report_ends_a_run(finished):
    text = finished.report.read_text(encoding="utf-8")
    results = json.loads(finished.results.read_text())
    assert f"{results['metrics']['psnr']:.2f}" in text and "data:video/mp4" in text


def test_re_enacting_a_driver(finished, monkeypatch):
    """With a landmarker that sees the same face in every picture, and then with one that sees none."""
    face = FaceReadings(
        np.random.default_rng(0).normal(size=(1, 478, 3)), np.full((1, 52), 0.5), np.eye(3, dtype=np.float32)[None]
    )
    looked_at = []

    def read(pictures, model, report):
        looked_at.append(pictures)
        return FaceReadings(*(value.repeat(len(pictures), 0) for value in vars(face).values()))

    monkeypatch.setattr(measure.assets, "path", lambda name: name)
    monkeypatch.setattr("stavatar.capture.faces.read_faces", read)
    sequence = read_sequence(finished.sequence)
    avatar, _ = load_avatar(finished.avatar)
    renders = sequence.images[sequence.test]
    figures, missing = measure.measure_reenactment(avatar, sequence, renders, sequence)
    assert [len(pictures) for pictures in looked_at] == [2, 2, 6, 6], "held out, their renders, the driver, its renders"
    difference = np.abs(looked_at[2].astype(float) - looked_at[3]).mean()
    assert 0 < difference < 40, "the avatar in the driver's poses looks like the driver, who is the subject itself"
    assert (figures["self"]["frames"], figures["cross"]["frames"]) == (2, 6)
    assert figures["cross"]["driver"] == sequence.name and figures["cross"]["pose_degrees"] == 0
    assert missing.keys() == {"identity"}

    face = dataclasses.replace(face, points=np.full_like(face.points, np.nan))
    figures, missing = measure.measure_reenactment(avatar, sequence, renders, None)
    assert figures["self"]["frames"] == 0 and figures["cross"] is None
    assert "no face" in missing["expression"] and "face-recognition" in missing["identity"]


def test_a_driver_of_another_head_is_refused(finished):
    sequence = read_sequence(finished.sequence)
    avatar, motion = load_avatar(finished.avatar)
    with pytest.raises(InputError, match="tracked with the head flame"):
        measure.measure_avatar(
            avatar, motion.parameters, sequence, driver=dataclasses.replace(sequence, head_model="flame")
        )


def test_a_protocol_that_the_run_does_not_follow_is_refused(finished):
    with pytest.raises(InputError, match="too short for the protocol stavatar"):
        pipeline.evaluate(finished, device=CPU, protocol="stavatar")


@pytest.mark.parametrize(
    ("name", "holdout", "message"),
    [
        ("mine", None, "choose one of custom, stavatar"),
        ("stavatar", 20, "--holdout goes with --protocol custom"),
        ("stavatar", None, "add --set capture.max_frames=null"),
        ("nersemble-mono", None, "to `stavatar train`"),
    ],
)
def test_protocols_are_checked_before_any_work(small_config, tmp_path, name, holdout, message):
    (tmp_path / "clip.mp4").write_bytes(b"not looked at")
    with pytest.raises(InputError, match=message):
        pipeline.reconstruct(
            tmp_path / "clip.mp4", tmp_path / "run", small_config, protocol=name, holdout=holdout, device=CPU
        )
    assert not (tmp_path / "run").exists()


def test_another_split_may_be_asked_for_when_training(source, settings, no_assets, tmp_path, monkeypatch):
    for stage in ("train", "evaluate"):
        monkeypatch.setattr(pipeline, stage, lambda *_, **__: None)
    run = pipeline.train_sequence(source, tmp_path / "run", settings, holdout=3, device=CPU)
    assert read_sequence(run.sequence).test.tolist() == [3, 4, 5]
    with pytest.raises(InputError, match="holdout 3, not None"):
        pipeline.train_sequence(source, tmp_path / "run", settings, device=CPU, resume=True)


def test_the_command_line_says_where_to_look(finished, no_assets, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "argv", ["stavatar", "evaluate", str(finished.folder)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    said = capsys.readouterr().out
    for path in (finished.results, finished.report, finished.contact_sheet, finished.side_by_side, finished.avatar):
        assert str(path) in said  # in one piece, however narrow the terminal
    assert str(finished.tracking_video) not in said  # a run from a sequence has none


# ---------------------------------------------------------------------------------------------------- interruptions


@pytest.fixture
def stopping():
    """Make a function raise an interruption on its n-th call, until it is mended by calling what this returns."""
    patch = pytest.MonkeyPatch()

    def arrange(owner, name, call):
        original = getattr(owner, name)
        calls = iter(range(1, 1000))

        def stop(*arguments, **options):
            if next(calls) == call:
                raise KeyboardInterrupt
            return original(*arguments, **options)

        patch.setattr(owner, name, stop)
        return patch.undo

    yield arrange
    patch.undo()


def test_a_run_interrupted_in_every_stage_ends_as_an_uninterrupted_one(
    finished, source, settings, no_assets, stopping, tmp_path
):
    run = Run(tmp_path / "run")
    kept: dict[str, float] = {}
    moments = [
        # where it stops, what is there by then: the avatar, a checkpoint
        (pipeline, "write_sequence", 1, False, False),
        (Trainer, "train_step", 2, False, True),
        (Trainer, "track_held_out", 1, False, True),
        (pipeline, "contact_sheet", 1, True, False),
    ]
    for owner, name, call, avatar, saved in moments:
        mend = stopping(owner, name, call)
        with pytest.raises(KeyboardInterrupt):
            pipeline.train_sequence(source, run.folder, settings, device=CPU, resume=True)
        mend()
        assert not run.results.exists()
        assert run.avatar.exists() == avatar, name
        assert (run.folder / checkpoint.NAME).exists() == saved, name
        assert {stage: run.seconds[stage] for stage in kept} == kept  # no finished stage was done again
        kept = run.seconds
    assert set(kept) == {"tracking", "training", "held_out_tracking"}
    pipeline.train_sequence(source, run.folder, settings, device=CPU, resume=True)

    expected, found = load_file(finished.avatar / TENSORS), load_file(run.avatar / TENSORS)
    assert set(found) == set(expected)
    for key, value in found.items():
        assert torch.equal(value, expected[key]), key
    names = [sorted(path.name for path in each.folder.iterdir()) for each in (run, finished)]
    assert names[0] == names[1]


@pytest.mark.slow
def test_a_tracked_run_without_its_overlay_gets_it_on_resume(source, settings, tmp_path, monkeypatch, small_sequence):
    """Killed between the sequence and its overlay: nothing is tracked again."""
    run = Run.start(tmp_path / "run", settings, {}, resume=False)
    with run.timed("tracking"):
        write_sequence(small_sequence, run.sequence)
    monkeypatch.setattr("stavatar.capture.capture", lambda *_, **__: pytest.fail("captured again"))
    pipeline.track(tmp_path / "clip.mp4", run, settings)
    frames, _ = decoded(run.tracking_video)
    assert len(frames) == len(small_sequence)


def test_a_sequence_is_refined_once(source, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(refine, "ROUNDS", (refine.Round(5, 1, face=False),))
    out = tmp_path / "refined"
    refined = pipeline.refine_sequence(source, out, settings, device=CPU)
    written, before = read_sequence(out), read_sequence(source)
    assert torch.equal(written.parameters.neck, refined.parameters.neck)
    assert not torch.equal(written.parameters.neck, before.parameters.neck)
    assert torch.equal(written.images, before.images) and torch.equal(written.test, before.test)
    with pytest.raises(InputError, match="already holds a sequence"):
        pipeline.refine_sequence(source, out, settings, device=CPU)
    with pytest.raises(InputError, match="aligned photometrically already"):
        pipeline.refine_sequence(out, tmp_path / "again", settings, device=CPU)
    assert not (tmp_path / "again").exists()


def test_a_sequence_of_another_head_makes_no_folder(small_sequence, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("STAVATAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STAVATAR_FLAME", raising=False)
    write_sequence(dataclasses.replace(small_sequence, head_model="flame-2023"), tmp_path / "sequence")
    with pytest.raises(InputError, match="flame-2023"):
        pipeline.train_sequence(tmp_path / "sequence", tmp_path / "run", settings, device=CPU)
    assert not (tmp_path / "run").exists()


def test_a_sequence_without_held_out_frames_is_split(small_sequence, settings, tmp_path, monkeypatch):
    everything = dataclasses.replace(
        small_sequence, train=torch.arange(len(small_sequence)), test=torch.empty(0, dtype=torch.int64)
    )
    write_sequence(everything, tmp_path / "sequence")
    monkeypatch.setattr(pipeline, "train", lambda *_, **__: None)
    monkeypatch.setattr(pipeline, "evaluate", lambda *_, **__: None)
    run = pipeline.train_sequence(tmp_path / "sequence", tmp_path / "run", settings, device=CPU)
    assert read_sequence(run.sequence).test.tolist() == [8, 9]
    assert read_sequence(tmp_path / "sequence").test.tolist() == []  # the user's own stays as it is


def test_a_run_that_holds_nothing_out_cannot_be_measured(finished, small_sequence, tmp_path):
    run = Run(tmp_path)
    write_sequence(dataclasses.replace(small_sequence, test=torch.empty(0, dtype=torch.int64)), run.sequence)
    (tmp_path / "avatar").symlink_to(finished.avatar)
    with pytest.raises(InputError, match="holds out no frames"):
        pipeline.evaluate(run, device=CPU)


# ---------------------------------------------------------------------------------------------------- other views


def test_rendering_replays_the_recorded_motion(finished, tmp_path):
    pipeline.render_motion(finished.folder, tmp_path / "out.mp4", frames=3, device=CPU)
    frames, fps = decoded(tmp_path / "out.mp4")
    avatar, motion = load_avatar(finished.avatar)
    assert fps == pytest.approx(motion.fps)
    with torch.no_grad():
        expected = render(avatar(motion.parameters[:3]), motion.camera).image.clamp(0, 1) * 255
    assert frames.shape == tuple(expected.shape)
    assert np.abs(frames - expected.numpy()).mean() < 8


@pytest.mark.parametrize("folder", ["run", "avatar"])
def test_orbiting_gives_the_frames_and_the_size_asked_for(finished, tmp_path, folder):
    path = finished.folder if folder == "run" else finished.avatar
    orbit = CameraMove(orbit=True)
    pipeline.render_motion(path, tmp_path / "out.mp4", size=96, move=orbit, frames=4, soft=False, device=CPU)
    frames, _ = decoded(tmp_path / "out.mp4")
    assert frames.shape == (4, 96, 96, 3)
    assert (frames.min((1, 2, 3)) < 128).all()  # the head is in every picture
    assert (frames[:, 0, 0] > 250).all()  # over white


def test_all_frames_are_rendered_by_default(finished, tmp_path):
    pipeline.render_motion(finished.folder, tmp_path / "out.mp4", size=32, soft=False, frames=1000, device=CPU)
    assert len(decoded(tmp_path / "out.mp4")[0]) == 6


def test_a_failed_render_leaves_the_file_that_was_there(finished, tmp_path, stopping):
    out = tmp_path / "out.mp4"
    out.write_text("of the user")
    stopping(Runtime, "draw", 2)
    with pytest.raises(KeyboardInterrupt):
        pipeline.render_motion(finished.folder, out, frames=3, soft=False, device=CPU)
    assert out.read_text() == "of the user"
    assert list(tmp_path.iterdir()) == [out]


# ---------------------------------------------------------------------------------------------------- devices


def test_devices_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pipeline.choose_device("auto") == pipeline.choose_device("cpu") == CPU
    with pytest.raises(BackendError, match="torch sees no CUDA GPU"):
        pipeline.choose_device("cuda")
    with pytest.raises(InputError, match="expected auto, cpu or cuda"):
        pipeline.choose_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pipeline.choose_device("auto") == pipeline.choose_device("cuda") == torch.device("cuda")

"""`stavatar data`, and what the other commands make of data sets: from folders in to sentences and folders out."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import data_sets
import pytest
import torch
from data_sets import FRAMES, Truth

from stavatar import cli, config, pipeline
from stavatar.camera import Camera
from stavatar.containers import write_video
from stavatar.data import open_recording
from stavatar.errors import InputError
from stavatar.sequence import read_sequence, write_sequence


@pytest.fixture
def stavatar(monkeypatch, capsys):
    """Call the program in this process: (exit code, standard output, standard error), lines not wrapped."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stavatar", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "300")
        with pytest.raises(SystemExit) as stop:
            cli.main()
        written = capsys.readouterr()
        return int(stop.value.code or 0), written.out, written.err

    return call


class TestInspect:
    def test_a_sound_data_set(self, stavatar, tmp_path):
        data_sets.write_vhap(tmp_path / "[bold]subject", Truth.make(), cameras=(2, 5, 8))
        code, out, _ = stavatar("data", "inspect", tmp_path / "[bold]subject")
        assert code == 0
        for text in ("(vhap)", "12, 64 x 64 pixels", "3 over 4 timesteps", "train 6, val 3, test 3", "expr (4, 100)"):
            assert text in out
        assert "flame-2023" in out and "[bold]subject" in out, "paths are no markup"

    def test_faults_are_listed_and_end_with_an_exit_code(self, stavatar, tmp_path):
        data_sets.write_imavatar(tmp_path, Truth.make(100, 50))
        (tmp_path / "mask/2.png").unlink()
        code, out, _ = stavatar("data", "inspect", tmp_path)
        assert code == 2 and "2.png does not exist" in out and "nothing before its faults are mended" in out

    def test_json_is_the_whole_of_standard_output(self, stavatar, tmp_path):
        data_sets.write_nerface(tmp_path, Truth.make())
        code, out, _ = stavatar("data", "inspect", tmp_path, "--json")
        found = json.loads(out)
        assert code == 0 and found["format"] == "nerface" and found["fields"]["expression"] == [FRAMES, 76]
        assert found["head_model"] is None and any("stavatar reconstruct" in use for use in found["uses"])

    def test_our_own_sequence_can_be_trained_on(self, stavatar, small_sequence, tmp_path):
        write_sequence(small_sequence, tmp_path / "sequence")
        code, out, _ = stavatar("data", "inspect", tmp_path / "sequence", "--json")
        found = json.loads(out)
        assert code == 0 and found["head_model"] == "embedded-1" and found["remarks"] == []
        assert found["uses"][0] == f"train: stavatar train {tmp_path / 'sequence'} -o OUT"

    def test_a_video(self, stavatar, small_sequence, tmp_path):
        write_video(tmp_path / "clip.mp4", small_sequence.images.numpy(), 25)
        code, out, _ = stavatar("data", "inspect", tmp_path / "clip.mp4")
        assert code == 0 and "10, 64 x 64 pixels" in out and "stavatar reconstruct" in out

    def test_nothing_there(self, stavatar, tmp_path):
        code, _, errors = stavatar("data", "inspect", tmp_path / "nothing")
        assert code == 2 and errors.startswith("error: ") and "does not exist" in errors


class TestConvert:
    def test_writes_the_layout_and_says_so(self, stavatar, tmp_path):
        data_sets.write_metrical(tmp_path / "theirs", Truth.make())
        code, out, _ = stavatar("data", "convert", tmp_path / "theirs", "-o", tmp_path / "ours", "--holdout", 1)
        assert code == 0 and f"({FRAMES} pictures, {FRAMES - 1} to train on, 1 held out)" in out
        read = read_sequence(tmp_path / "ours")
        assert read.head_model == "flame-2020" and read.test.tolist() == [FRAMES - 1]
        assert read.history["tracker"] == "metrical-tracker" and len(read.camera) == FRAMES

    def test_one_camera_as_jpeg(self, stavatar, tmp_path):
        data_sets.write_vhap(tmp_path / "theirs", Truth.make(), cameras=(2, 5))
        options = ("--camera", "222200005", "--jpg")
        code, _, _ = stavatar("data", "convert", tmp_path / "theirs", "-o", tmp_path / "ours", *options)
        assert code == 0
        assert sorted(path.name for path in (tmp_path / "ours/images").iterdir()) == [
            f"{step:05d}_00.jpg" for step in range(FRAMES)
        ]

    def test_what_cannot_be_converted_leaves_nothing(self, stavatar, tmp_path):
        data_sets.write_insta(tmp_path / "theirs", Truth.make())
        code, _, errors = stavatar("data", "convert", tmp_path / "theirs", "-o", tmp_path / "ours")
        assert code == 2 and "no identity, jaw or gaze" in errors and not (tmp_path / "ours").exists()


class TestTraining:
    def test_without_the_head_model_no_folder_is_made(self, stavatar, tmp_path, monkeypatch):
        monkeypatch.setenv("STAVATAR_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("STAVATAR_FLAME", raising=False)
        data_sets.write_vhap(tmp_path / "theirs", Truth.make())
        code, _, errors = stavatar("train", tmp_path / "theirs", "-o", tmp_path / "run")
        assert code == 2 and "the head model flame-2023 is not known here" in errors and not (tmp_path / "run").exists()

    def test_foreign_data_become_a_sequence_of_the_loaded_head(self, head, small_sequence, tmp_path, monkeypatch):
        """The small sequence, as if tracked by someone with a moving camera, on a head that goes by FLAME's name."""
        turned = Camera.orbit(torch.zeros(3), 1.0, torch.linspace(0, 0.3, 10), torch.zeros(10), 128.0, 64, 64)
        foreign = replace(small_sequence, head_model="flame-2023", camera=turned)
        write_sequence(foreign, tmp_path / "theirs")
        monkeypatch.setattr(head, "name", "flame-2023-0123abcd")
        monkeypatch.setattr(pipeline, "load_head", lambda name: head)
        for stage in ("train", "evaluate", "require_tools"):
            monkeypatch.setattr(pipeline, stage, lambda *_, **__: None)
        run = pipeline.train_sequence(
            tmp_path / "theirs", tmp_path / "run", config.preset("cpu"), device=torch.device("cpu")
        )
        written = read_sequence(run.sequence)
        assert written.head_model == "flame-2023-0123abcd" and len(written.camera) == 1
        before = turned.project(head(small_sequence.shape, small_sequence.parameters).vertices)
        after = written.camera.project(
            head(
                written.shape[: head.shape_count],
                written.parameters[list(range(10))].replaced(
                    expression=written.parameters.expression[:, : head.expression_count]
                ),
            ).vertices
        )
        torch.testing.assert_close(after, before, rtol=0, atol=0.01)


class TestRecordings:
    def test_pictures_and_mattes_of_a_data_set(self, tmp_path):
        data_sets.write_imavatar(tmp_path, Truth.make(100, 50))
        source = open_recording(tmp_path)
        frames = list(source.frames())
        assert source.matted and len(frames) == FRAMES
        assert frames[2].rgb[0, 0].tolist() == [20, 20, 0] and (frames[2].alpha == data_sets.half(64, 64)).all()

    def test_pictures_of_several_splits_in_the_order_of_the_video(self, tmp_path):
        data_sets.write_nerface(tmp_path, Truth.make())
        source = open_recording(tmp_path)
        assert not source.matted and [int(frame.rgb[0, 0, 1]) for frame in source.frames()] == [0, 10, 20, 30]

    def test_one_camera_is_asked_for(self, tmp_path):
        data_sets.write_vhap(tmp_path, Truth.make(), cameras=(0, 1))
        with pytest.raises(InputError, match=r"taken by 2 cameras.*data convert .* --camera"):
            open_recording(tmp_path)

    def test_a_data_set_with_faults_is_refused(self, tmp_path):
        data_sets.write_insta(tmp_path, Truth.make())
        (tmp_path / "flame/exp/00001.txt").write_text("0")
        with pytest.raises(InputError, match=r"00001\.txt must hold 100"):
            open_recording(tmp_path)

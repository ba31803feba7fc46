"""An ablation from end to end: runs that share a sequence, the table over them, failures, and going on."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from stavatar import cli, config, pipeline
from stavatar.ablation import ablate
from stavatar.ablation.rows import choose_rows
from stavatar.avatar.storage import TENSORS, load_avatar
from stavatar.cli.ablate import _numbers
from stavatar.errors import InputError
from stavatar.run import Run
from stavatar.sequence import write_sequence
from stavatar.training.trainer import Trainer

CPU = torch.device("cpu")
SEEDS = [0, 1]
ROWS = choose_rows("no_soft_binding,no_perceptual", ["bad:training.lr_position=1e30,training.lr_color=1e30"])
PICTURES = ["clusters.png", "crops_eyes.png", "crops_mouth.png", "curves.png", "gaussians_uv.png", "offsets.png"]


@pytest.fixture(scope="module")
def settings(small_config):
    """Five steps, a checkpoint after each."""
    return dataclasses.replace(
        small_config,
        pose=dataclasses.replace(small_config.pose, passes=(), iterations=1),
        training=dataclasses.replace(small_config.training, steps=5, checkpoint_seconds=0.0, network_start=0.0, seed=7),
    )


@pytest.fixture(scope="module")
def source(small_sequence, tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "talk"
    write_sequence(small_sequence, folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def quickly(tmp_path_factory):
    """No model files and few repeats of what is timed, which would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stavatar.evaluation.speed.MOST_SECONDS", 0.0)
        patch.setenv("STAVATAR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def done(source, settings, tmp_path_factory):
    """Folder and failures of two rows with two seeds, one row that cannot be trained, and one that changes nothing."""
    folder = tmp_path_factory.mktemp("ablations") / "out"
    return folder, ablate(source, folder, settings, ROWS, SEEDS, device=CPU)


def numbers(folder):
    return json.loads((folder / "ablation.json").read_text())


def test_runs_share_one_sequence(done):
    folder, _ = done
    assert [path.parent for path in folder.rglob("transforms.json")] == [folder / "sequence"]
    for row in ("full", "no_soft_binding"):
        for seed in SEEDS:
            run = Run.open(folder / row / f"seed{seed}")
            assert run.sequence.resolve() == (folder / "sequence").resolve()
            assert config.load(run.config_path).training.seed == seed
            assert not run.side_by_side.exists()
    assert load_avatar(folder / "no_soft_binding" / "seed0" / "avatar")[0].network is None


def test_the_table_is_that_of_the_runs(done):
    folder, _ = done
    results = {
        row: [json.loads((folder / row / f"seed{seed}" / "results.json").read_text()) for seed in SEEDS]
        for row in ("full", "no_soft_binding")
    }
    rows = numbers(folder)["rows"]
    psnr = {row: [each["metrics"]["psnr"] for each in found] for row, found in results.items()}
    assert psnr["full"][0] != psnr["full"][1]  # the seed counts
    for row, values in psnr.items():
        assert rows[row]["mean_and_std"]["psnr"]["mean"] == pytest.approx(sum(values) / 2)
        assert rows[row]["mean_and_std"]["psnr"]["std"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    steps = [hard - full for hard, full in zip(psnr["no_soft_binding"], psnr["full"], strict=True)]
    assert rows["no_soft_binding"]["difference_to_full"]["psnr"]["mean"] == pytest.approx(sum(steps) / 2)
    assert rows["full"]["mean_and_std"]["lpips_alex"] is None
    assert "| missing |" in (folder / "ablation.md").read_text()


def test_gaussians_inside_the_mouth_are_counted_by_their_faces(done, head):
    folder, _ = done
    gaussians = load_avatar(folder / "full" / "seed1" / "avatar")[0].gaussians
    expected = sum(int(head.faces_in(region)[gaussians.face].sum()) for region in ("mouth_interior", "teeth"))
    run = numbers(folder)["rows"]["full"]["runs"]["1"]
    assert run["gaussians_mouth"] == expected
    assert 0 < expected < run["gaussians"] == len(gaussians)


def test_a_row_that_fails_is_named_and_stops_no_other(done):
    folder, failures = done
    assert set(failures) == {"bad, seed 0", "bad, seed 1"}
    assert "loss is" in failures["bad, seed 0"]
    assert numbers(folder)["failed"] == failures
    assert f"- bad, seed 1: {failures['bad, seed 1']}" in (folder / "ablation.md").read_text().splitlines()
    assert numbers(folder)["rows"]["bad"]["runs"] == {}


def test_a_row_that_changes_nothing_is_left_out_and_named(done):
    folder, _ = done
    assert not (folder / "no_perceptual").exists()  # this preset has no perceptual loss to begin with
    left_out = [value for name, value in numbers(folder)["facts"].items() if name.startswith("left out")]
    assert left_out == ["no_perceptual"]
    assert set(numbers(folder)["rows"]) == {"full", "no_soft_binding", "bad"}


def test_pictures_open(done):
    folder, _ = done
    assert sorted(path.name for path in folder.glob("*.png")) == PICTURES
    for path in folder.rglob("*.png"):
        with Image.open(path) as picture:
            picture.load()
    own = sorted(path.name for path in (folder / "full" / "seed0" / "pictures").iterdir())
    assert own == ["clusters.png", "curves.png", "gaussians_uv.png", "offsets.png"]
    assert not (folder / "no_soft_binding" / "seed0" / "pictures" / "offsets.png").exists()


def test_finished_runs_are_not_trained_again(done, source, settings, monkeypatch):
    folder, _ = done
    before = numbers(folder)["rows"]
    monkeypatch.setattr(Trainer, "train_step", lambda *_: pytest.fail("trained again"))
    rows = choose_rows("no_soft_binding", [])
    assert ablate(source, folder, settings, rows, SEEDS, device=CPU, resume=True) == {}
    after = numbers(folder)["rows"]
    assert after == {name: before[name] for name in ("full", "no_soft_binding")}


def test_a_row_that_now_means_something_else_is_not_taken_for_finished(done, source, settings, monkeypatch):
    folder, _ = done
    monkeypatch.setattr(Trainer, "train_step", lambda *_: pytest.fail("trained again"))
    rows = choose_rows("", ["no_soft:network.enabled=false"])
    rows[1] = dataclasses.replace(rows[1], name="no_soft_binding", settings=("network.enabled=false", "pose.neck=0"))
    failures = ablate(source, folder, settings, rows, [0], device=CPU, resume=True)
    assert set(failures) == {"no_soft_binding, seed 0"}
    assert "other settings" in failures["no_soft_binding, seed 0"]
    assert numbers(folder)["rows"]["no_soft_binding"]["runs"] == {}


def test_an_interrupted_ablation_goes_on_where_it_stopped(done, source, settings, tmp_path, monkeypatch):
    """Stopped in the second run's second step; both runs end as those of an uninterrupted ablation."""
    calls, step = [], Trainer.train_step

    def stop(self, *arguments):
        calls.append(self.config.training.seed)
        if calls.count(1) == 2:
            raise KeyboardInterrupt
        return step(self, *arguments)

    rows, folder = choose_rows("", []), tmp_path / "out"
    monkeypatch.setattr(Trainer, "train_step", stop)
    with pytest.raises(KeyboardInterrupt):
        ablate(source, folder, settings, rows, SEEDS, device=CPU)
    kept = (folder / "full" / "seed0" / "stages.json").read_bytes()
    assert (folder / "full" / "seed1" / "checkpoint.safetensors").exists()
    assert not (folder / "full" / "seed1" / "avatar").exists()

    with pytest.raises(InputError, match="already holds a run; add --resume"):
        ablate(source, folder, settings, rows, SEEDS, device=CPU)
    assert ablate(source, folder, settings, rows, SEEDS, device=CPU, resume=True) == {}
    assert (folder / "full" / "seed0" / "stages.json").read_bytes() == kept
    ours, theirs = (load_file(each / "full" / "seed1" / "avatar" / TENSORS) for each in (folder, done[0]))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_bug_of_ours_stops_no_other_row_and_keeps_its_traceback(done, source, settings, tmp_path, monkeypatch):
    def broken(run, config, *, device):
        raise ZeroDivisionError(f"in {run.folder.name}")

    monkeypatch.setattr(pipeline, "train", broken)
    failures = ablate(source, tmp_path / "out", settings, choose_rows("", []), SEEDS, device=CPU)
    assert failures["full, seed 1"].startswith("ZeroDivisionError: in seed1")
    assert "Traceback" in (tmp_path / "out" / "full" / "seed0.log").read_text()
    assert "ZeroDivisionError: in seed0" in (tmp_path / "out" / "ablation.md").read_text()


def test_a_wrong_setting_is_found_before_anything_is_made(source, settings, tmp_path):
    rows = choose_rows("", ["mine:network.colour=red"])
    with pytest.raises(InputError, match=r"network\.colour"):
        ablate(source, tmp_path / "out", settings, rows, [0], device=CPU)
    assert not (tmp_path / "out").exists()


def test_the_command_shows_the_table_and_ends_with_an_error_where_runs_failed(done, source, monkeypatch, capsys):
    """Through the command line, from a finished run's sequence, with what is there already."""
    folder, _ = done
    taken = {}

    def carried_out(data, out, base, rows, seeds, **options):
        taken.update(data=data, rows=[row.name for row in rows], seeds=seeds, **options)
        return {"bad, seed 0": "reason"}

    monkeypatch.setattr("stavatar.ablation.ablate", carried_out)
    monkeypatch.setenv("COLUMNS", "120")
    arguments = ["ablate", source, "-o", folder, "--rows", "no_adc", "--row", "w:network.width=2", "--seeds", "0, 2"]
    monkeypatch.setattr(sys, "argv", ["stavatar", *map(str, arguments), "--jobs", "3", "--resume"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 5
    assert taken == {
        **{"data": source, "rows": ["full", "no_adc", "w"], "seeds": [0, 2]},
        **{"device": pipeline.choose_device("auto"), "jobs": 3, "resume": True},
    }
    written = capsys.readouterr()
    assert "no_soft_binding" in written.out
    assert str(folder / "ablation.md") in written.out
    assert "bad, seed 0" in written.err


@pytest.mark.parametrize("seeds", ["0,0", "1,two", "", "-1"])
def test_seeds_that_cannot_be(seeds):
    with pytest.raises(InputError, match="expected different whole numbers"):
        _numbers("--seeds", seeds)


def test_a_finished_run_gives_its_sequence(done, settings, tmp_path, monkeypatch):
    """Also one that shares another's."""
    folder, _ = done
    asked = []

    def taken(source, *_, **__):
        asked.append(source.resolve())
        raise InputError("enough")

    monkeypatch.setattr(pipeline, "take_sequence", taken)
    for data in (folder, folder / "full" / "seed0"):
        with pytest.raises(InputError, match="enough"):
            ablate(data, tmp_path / "out", settings, choose_rows("", []), [0], device=CPU)
    assert asked == [(folder / "sequence").resolve()] * 2


def test_nothing_for_videos_is_needed():
    """A machine with a GPU and little else can import all of it."""
    script = (
        "import sys\n"
        "for name in ('av', 'cv2', 'mediapipe', 'matplotlib'): sys.modules[name] = None\n"
        "import stavatar.ablation.worker, stavatar.cli, stavatar.training.trainer, stavatar.pipeline\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)

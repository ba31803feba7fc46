"""Runs killed at the moments where that could do harm: they go on, and end as if nothing had happened.

``random_kills.py`` beside this file does the same at random moments of whole runs.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from safetensors import safe_open
from victims import Moment, command, content, rubbish, start, until_its_end

from same_bits import assert_same_bits
from stavatar import config, interruption, pipeline
from stavatar.ablation import worker
from stavatar.avatar.storage import TENSORS, load_avatar
from stavatar.errors import InputError
from stavatar.export.web.site import export_site
from stavatar.refinement import refine
from stavatar.run import Run, claimed
from stavatar.sequence import read_sequence, write_sequence
from stavatar.training import checkpoint

CPU = torch.device("cpu")
STEPS = 8
KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def settings(small_config):
    """A few steps with an event of density control in the middle and a checkpoint after each."""
    return dataclasses.replace(
        small_config,
        pose=dataclasses.replace(small_config.pose, passes=(0.5,), iterations=1),
        schedule=dataclasses.replace(small_config.schedule, warmup=0.25, final=0.25, clusters=(1,)),
        training=dataclasses.replace(small_config.training, steps=STEPS, checkpoint_seconds=0.0),
    )


@pytest.fixture(scope="module")
def source(small_sequence, tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "sequence"
    write_sequence(small_sequence, folder)
    return folder


def train(source, folder, settings):
    """A run up to its avatar, from wherever it stands."""
    with claimed(folder):
        run = pipeline.take_sequence(source, folder, settings, device=CPU, resume=True)
        pipeline.train(run, settings, device=CPU)


@pytest.fixture(scope="module")
def uninterrupted(source, settings, tmp_path_factory):
    # In a process of its own, as the others are: with another number of threads, sums would be rounded elsewhere.
    folder = tmp_path_factory.mktemp("runs")
    assert until_its_end(train, source, folder / "run", settings, log=folder / "log") == 0
    return Run(folder / "run")


def step_of(run):
    with safe_open(run.folder / checkpoint.NAME, framework="pt") as file:
        return json.loads(file.metadata()["stavatar"])["step"]


@pytest.mark.timeout(900)  # ten seconds of work, but a dozen processes
def test_killed_again_and_again_a_run_ends_with_the_same_avatar(uninterrupted, source, settings, tmp_path):
    run = Run(tmp_path / "run")
    log = tmp_path / "log"
    moments = [
        # the run's own notes: there is a folder, but nothing in it yet that makes it a run
        Moment("stavatar.files:flush", told="config-"),
        Moment("stavatar.config:save", after=True),
        # in the middle of writing the sequence, and before it gets its name
        Moment("stavatar.sequence.vhap_writer:_save_arrays", call=4),
        Moment("pathlib:Path.rename", told="sequence"),
        # before the first checkpoint, and in the middle of writing one
        Moment("stavatar.training.trainer:Trainer.train_step"),
        Moment("stavatar.files:flush", call=3, told="checkpoint-"),
        # right after density control has acted, before a checkpoint knows of it
        Moment("stavatar.density.control:AdaptiveDensity.densify", after=True),
        Moment("stavatar.training.poses:TrackedParameters.replace", after=True),
        # with the avatar half-written, written but not noted, and noted but with the checkpoint still there
        Moment("stavatar.files:flush", told="avatar-", call=2),
        Moment("stavatar.pipeline:save_avatar", after=True),
        Moment("stavatar.run:Run.record", after=True, told="held_out_tracking"),
    ]
    for moment in moments:
        before = step_of(run) if (run.folder / checkpoint.NAME).exists() else 0
        assert until_its_end(train, source, run.folder, settings, moment=moment, log=log) == KILLED, moment
        assert not run.done("training") or step_of(run) == STEPS
        assert before == 0 or step_of(run) >= before, "no checkpoint is ever lost"
    assert rubbish(run.folder), "locks and unfinished files were left behind"
    assert until_its_end(train, source, run.folder, settings, log=log) == 0, log.read_text()

    assert_same_bits(run.avatar / TENSORS, uninterrupted.avatar / TENSORS)
    assert rubbish(run.folder) == []
    names = [sorted(path.name for path in each.folder.iterdir()) for each in (run, uninterrupted)]
    assert names[0] == names[1]
    assert content(run.sequence) == content(uninterrupted.sequence)


def track(source, folder, settings):
    """A run from landmarks to its refined sequence, in two short rounds, from wherever it stands."""
    refine.ROUNDS = (refine.Round(4, 1, face=False, reach=1.6), refine.Round(3, 1))
    with claimed(folder):
        run = Run.start(folder, settings, {}, resume=True)
        if not run.done("tracking"):
            write_sequence(read_sequence(source), run.sequence, overwrite=True)
            run.record("tracking", 1.0)
        pipeline.track(source, run, settings, device=CPU)


@pytest.mark.slow
@pytest.mark.timeout(900)  # as above
def test_killed_again_and_again_a_refinement_ends_with_the_same_sequence(source, settings, tmp_path):
    undisturbed, run, log = Run(tmp_path / "undisturbed"), Run(tmp_path / "run"), tmp_path / "log"
    assert until_its_end(track, source, undisturbed.folder, settings, log=log) == 0, log.read_text()
    moments = [
        # while the likeness is fitted, before there is a checkpoint, and in the middle of writing one
        Moment("stavatar.training.trainer:Trainer.train_step"),
        Moment("stavatar.files:flush", call=3, told="refinement-"),
        # in the first alignment: before a look at the frames, and between two, which ends this round
        Moment("stavatar.alignment.align:linearise"),
        Moment("stavatar.alignment.align:compare"),
        Moment("stavatar.training.poses:TrackedParameters.replace", after=True),
        # with the sequence half-written, written but not noted, and noted but with the checkpoint still there
        Moment("stavatar.sequence.vhap_writer:_save_arrays", call=4),
        Moment("stavatar.pipeline:write_sequence", after=True),
        Moment("stavatar.refinement:Keep.clear"),
    ]
    for moment in moments:
        assert until_its_end(track, source, run.folder, settings, moment=moment, log=log) == KILLED, moment
    assert until_its_end(track, source, run.folder, settings, log=log) == 0, log.read_text()
    assert log.read_text().count("tracking goes on where it was interrupted") >= 5
    assert content(run.sequence) == content(undisturbed.sequence)
    assert rubbish(run.folder) == []
    names = [sorted(path.name for path in each.folder.iterdir()) for each in (run, undisturbed)]
    assert names[0] == names[1] and "refinement.safetensors" not in names[0]


def test_asked_to_end_a_command_finishes_its_step_and_says_how_to_go_on(
    uninterrupted, source, settings, tmp_path, monkeypatch
):
    """Though a checkpoint was not due for a long time."""
    monkeypatch.setenv("STAVATAR_CACHE", str(tmp_path / "cache"))
    patient = dataclasses.replace(settings, training=dataclasses.replace(settings.training, checkpoint_seconds=3600.0))
    run = Run(tmp_path / "run")
    moment = Moment("stavatar.training.trainer:Trainer.train_step", call=3, signal=signal.SIGTERM)
    with claimed(run.folder):
        pipeline.take_sequence(source, run.folder, patient, device=CPU, resume=True)
    words = ["train", source, "-o", run.folder, "--resume", *options(patient)]
    log = tmp_path / "log"
    assert until_its_end(command, *words, moment=moment, log=log) == 128 + signal.SIGTERM, log.read_text()
    assert step_of(run) == 3
    assert f"go on with: stavatar train {source} -o {run.folder} --resume" in log.read_text()
    assert "Traceback" not in log.read_text() and rubbish(run.folder) == []

    assert until_its_end(train, source, run.folder, patient, log=log) == 0, log.read_text()
    assert_same_bits(run.avatar / TENSORS, uninterrupted.avatar / TENSORS)


@pytest.mark.slow
@pytest.mark.timeout(900)  # two minutes, in which all kernels are compiled
def test_a_run_that_compiles_its_kernels_ends_as_one_that_finds_them_compiled(source, settings, tmp_path):
    """As the first run after an installation does, which may be killed and go on."""
    for name in ("compiled", "found"):
        words = ["train", source, "-o", tmp_path / name, *options(settings)]
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        subprocess.run([sys.executable, "-m", "stavatar", *map(str, words)], check=True, env=environment)
    assert_same_bits(*(Run(tmp_path / name).avatar / TENSORS for name in ("compiled", "found")))


def options(settings):
    """The same settings on the command line."""
    base, wanted = config.to_dict(config.preset("cpu")), config.to_dict(settings)
    changed = (
        f"{section}.{name}={value}"
        for section, fields in wanted.items()
        if isinstance(fields, dict)
        for name, value in fields.items()
        if value != base[section][name]
    )
    return ["--preset", "cpu", *(word for one in changed for word in ("--set", one))]


def export(folder, site):
    """As `stavatar export web` does, on few frames."""
    export_site(site, *load_avatar(folder), rank=2, frames=2)


def test_a_killed_export_leaves_the_site_before_it(small_avatar_folder, tmp_path):
    site, log = tmp_path / "site", tmp_path / "log"
    export(small_avatar_folder, site)
    before = content(site)
    for moment in (Moment("stavatar.export.web.site:measure_loss"), Moment("pathlib:Path.rename", told="replaced")):
        assert until_its_end(export, small_avatar_folder, site, moment=moment, log=log) == KILLED
        assert content(site) == before
    # Between the two renames there is no site, for as long as nobody looks.
    moment = Moment("pathlib:Path.rename", told="replaced", after=True)
    assert until_its_end(export, small_avatar_folder, site, moment=moment, log=log) == KILLED
    assert not site.exists()
    moment = Moment("stavatar.export.web.site:measure_loss")
    assert until_its_end(export, small_avatar_folder, site, moment=moment, log=log) == KILLED
    assert content(site) == before, "the next attempt begins with bringing it back"
    assert until_its_end(export, small_avatar_folder, site, log=log) == 0, log.read_text()
    assert content(site) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "site"]


def hold(folder):
    """Claim a folder and be killed there."""
    with claimed(folder):
        print("held", flush=True)
        signal.pause()


def test_a_claim_names_its_process_and_ends_with_it(tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log"
    log.touch()
    process = start(hold, folder, log=log)
    while "held" not in log.read_text():
        process.join(0.02)
    with pytest.raises(InputError, match=f"run is in use by process {process.pid} on "), claimed(folder):
        pass
    process.kill()
    process.join()
    assert rubbish(folder) == [".lock"]
    with claimed(folder):
        pass
    assert list(folder.iterdir()) == []


def outlive_a_parent():
    """A worker of an ablation, whose parent goes after a moment."""
    reading, writing = os.pipe()
    os.dup2(reading, 0)
    interruption.listen()
    threading.Thread(target=worker._end_with_parent, daemon=True).start()
    time.sleep(0.1)
    os.close(writing)
    time.sleep(60)


def test_a_worker_is_interrupted_when_its_parent_is_killed(tmp_path):
    begin = time.monotonic()
    assert until_its_end(outlive_a_parent, log=tmp_path / "log") != 0
    assert time.monotonic() - begin < 50 and f"Interrupted: signal {signal.SIGTERM}" in (tmp_path / "log").read_text()

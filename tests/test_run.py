"""The run folder: claiming, taking up, stage times, and leaving nothing behind where nothing came of it."""

import pytest

from stavatar import config
from stavatar.errors import InputError
from stavatar.files import read_json
from stavatar.run import Run, claimed

CONFIG = config.preset("cpu")
OTHER = config.override(CONFIG, ["training.seed=1"])


def test_a_new_run_keeps_its_settings(tmp_path):
    run = Run.start(tmp_path / "deep" / "out", OTHER, {}, resume=False)
    assert config.load(run.config_path) == OTHER
    assert sorted(path.name for path in run.folder.iterdir()) == ["config.yaml", "inputs.json"]
    assert not run.done("tracking")
    assert run.seconds == {}


def test_an_empty_folder_is_claimed(tmp_path):
    assert Run.start(tmp_path, CONFIG, {}, resume=False).config_path.is_file()


def test_resume_starts_a_run_where_there_is_none(tmp_path):
    """So that one command line serves for the first attempt and for all others."""
    assert Run.start(tmp_path / "out", CONFIG, {}, resume=True).config_path.is_file()


def test_a_run_is_taken_up_with_its_own_settings_only(tmp_path):
    first = Run.start(tmp_path, CONFIG, {}, resume=False)
    with first.timed("tracking"):
        pass
    kept = first.config_path.read_bytes()
    with pytest.raises(InputError, match="already holds a run; add --resume"):
        Run.start(tmp_path, CONFIG, {}, resume=False)
    with pytest.raises(InputError, match="other settings"):
        Run.start(tmp_path, OTHER, {}, resume=True)
    assert first.config_path.read_bytes() == kept
    assert Run.start(tmp_path, CONFIG, {}, resume=True).done("tracking")


def test_a_run_of_another_input_is_not_taken_up(tmp_path):
    inputs = {"source": "me.mp4", "bytes": 1000, "holdout": None}
    Run.start(tmp_path, CONFIG, inputs, resume=False)
    assert Run.start(tmp_path, CONFIG, inputs, resume=True).folder == tmp_path
    for name, other in (("source", "you.mp4"), ("bytes", 1001), ("holdout", 50)):
        with pytest.raises(InputError, match=f"holds a run with {name} .*, not {other}"):
            Run.start(tmp_path, CONFIG, inputs | {name: other}, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_anything_else_is_refused(tmp_path, resume):
    (tmp_path / "letter.txt").write_text("of the user")
    with pytest.raises(InputError, match="is not a stavatar run"):
        Run.start(tmp_path, CONFIG, {}, resume=resume)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_damaged_configuration_is_named(tmp_path):
    Run.start(tmp_path, CONFIG, {}, resume=False).config_path.write_text("capture: [")
    with pytest.raises(InputError, match=r"config\.yaml is not YAML"):
        Run.start(tmp_path, CONFIG, {}, resume=True)


def test_opening_needs_a_run(tmp_path):
    with pytest.raises(InputError, match=r"is not a stavatar run: it has no config\.yaml"):
        Run.open(tmp_path)
    Run.start(tmp_path, CONFIG, {}, resume=False)
    assert Run.open(tmp_path).folder == tmp_path


def test_stages_count_once_they_end_well(tmp_path):
    run = Run.start(tmp_path, CONFIG, {}, resume=False)
    with run.timed("capture"):
        pass
    with pytest.raises(ZeroDivisionError), run.timed("tracking"):
        raise ZeroDivisionError
    again = Run.open(tmp_path)
    assert again.done("capture")
    assert not again.done("tracking")
    assert set(again.seconds) == {"capture"}
    assert 0 <= again.seconds["capture"] < 5


def test_stage_times_are_those_of_the_clock(tmp_path, monkeypatch):
    now = iter([100.0, 102.5, 200.0, 201.0])
    monkeypatch.setattr("stavatar.run.time.monotonic", lambda: next(now))
    run = Run.start(tmp_path, CONFIG, {}, resume=False)
    for name in ("capture", "tracking"):
        with run.timed(name):
            pass
    assert run.seconds == {"capture": 2.5, "tracking": 1.0}


def failing(run):
    with pytest.raises(InputError), run.cleared_if_unused():
        raise InputError("no face")


def test_a_run_that_came_to_nothing_is_cleared_away(tmp_path):
    run = Run.start(tmp_path / "out", CONFIG, {}, resume=False)
    failing(run)
    assert not run.folder.exists()


def test_times_alone_are_no_product(tmp_path):
    run = Run.start(tmp_path / "out", CONFIG, {}, resume=False)
    with run.timed("capture"):
        pass
    failing(run)
    assert not run.folder.exists()


def test_a_folder_that_was_there_stays_there(tmp_path):
    failing(Run.start(tmp_path, CONFIG, {}, resume=False))
    assert tmp_path.is_dir()
    assert not any(tmp_path.iterdir())


def test_a_run_with_a_product_stays(tmp_path):
    run = Run.start(tmp_path / "out", CONFIG, {}, resume=False)
    (run.folder / "input.mp4").touch()
    failing(run)
    assert run.config_path.is_file()


def test_a_run_taken_up_stays(tmp_path):
    Run.start(tmp_path / "out", CONFIG, {}, resume=False)
    run = Run.start(tmp_path / "out", CONFIG, {}, resume=True)
    failing(run)
    assert run.config_path.is_file()


def test_errors_of_ours_leave_no_notes_either(tmp_path):
    run = Run.start(tmp_path / "out", CONFIG, {}, resume=False)
    with pytest.raises(ZeroDivisionError), run.cleared_if_unused():
        raise ZeroDivisionError
    assert not (tmp_path / "out").exists()


def test_a_run_may_share_the_sequence_of_another(tmp_path):
    """However the two are named from, and wherever they are moved to together."""
    whole = Run.start(tmp_path / "out", CONFIG, {}, resume=False)
    run = Run.start(tmp_path / "out" / "row" / "seed0", OTHER, {}, resume=False, shared=whole)
    assert whole.sequence == tmp_path / "out" / "sequence"
    assert run.sequence.resolve() == whole.sequence.resolve()
    (tmp_path / "out").rename(tmp_path / "moved")
    assert Run.open(tmp_path / "moved" / "row" / "seed0").sequence.resolve() == tmp_path / "moved" / "sequence"


def test_a_run_with_a_shared_sequence_is_not_taken_up_as_one_with_its_own(tmp_path):
    """Else the sequence of all would be overwritten by that of one."""
    whole = Run.start(tmp_path / "out", CONFIG, {}, resume=False)
    Run.start(tmp_path / "out" / "run", CONFIG, {}, resume=False, shared=whole)
    with pytest.raises(InputError, match="holds a run with shared_sequence"):
        Run.start(tmp_path / "out" / "run", CONFIG, {}, resume=True)
    assert Run.start(tmp_path / "out" / "run", CONFIG, {}, resume=True, shared=whole).sequence.name == "sequence"


# ------------------------------------------------------------------------------------------------- claims and kills


def test_a_claimed_run_admits_nobody_else(tmp_path):
    folder = tmp_path / "out"
    with claimed(folder):
        Run.start(folder, CONFIG, {}, resume=False)
        with pytest.raises(InputError, match="out is in use by process"), claimed(folder):
            pass
    with claimed(folder):
        Run.start(folder, CONFIG, {}, resume=True)
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "inputs.json"]


def test_a_claim_that_comes_to_nothing_leaves_nothing(tmp_path):
    with claimed(tmp_path / "out"):
        run = Run.start(tmp_path / "out", CONFIG, {}, resume=False)
        failing(run)
    assert not (tmp_path / "out").exists()
    (tmp_path / "there").mkdir()
    with claimed(tmp_path / "there"):
        pass
    assert list((tmp_path / "there").iterdir()) == []


def test_a_run_killed_before_it_was_one_starts_anew(tmp_path):
    """All that there is are a lock and unfinished files."""
    (tmp_path / ".lock").write_text("process 1 on elsewhere")
    (tmp_path / ".config-abcd1234.partial.yaml").write_text("capture:")
    with claimed(tmp_path):
        Run.start(tmp_path, CONFIG, {}, resume=False)
    with claimed(tmp_path):  # by now it is a run, and may be swept
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "inputs.json"]


def test_a_run_killed_before_it_noted_its_inputs_is_taken_up(tmp_path):
    first = Run.start(tmp_path, CONFIG, {"frames": 10}, resume=False)
    first.inputs_path.unlink()
    run = Run.start(tmp_path, CONFIG, {"frames": 20}, resume=True)
    assert read_json(run.inputs_path) == {"frames": 20}
    run.record("tracking", 1.0)
    run.inputs_path.unlink()
    with pytest.raises(InputError, match=r"inputs\.json does not exist"):  # a product of unknown origin
        Run.start(tmp_path, CONFIG, {"frames": 20}, resume=True)


def test_leftovers_are_swept_from_a_run_and_from_nothing_else(tmp_path):
    for folder in ("run", "other"):
        (tmp_path / folder / "pictures").mkdir(parents=True)
        for name in (
            ".sequence-abcd1234.partial",
            ".results-abcd1234.partial.json",
            "pictures/.c-abcd1234.partial.png",
        ):
            (tmp_path / folder / name).touch()
    (tmp_path / "run" / "config.yaml").touch()
    for folder in ("run", "other"):
        with claimed(tmp_path / folder):
            pass
    assert sorted(path.name for path in (tmp_path / "run").rglob("*")) == ["config.yaml", "pictures"]
    assert len(list((tmp_path / "other").rglob(".*"))) == 3

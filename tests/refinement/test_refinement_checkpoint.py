"""Refinements that end in the middle and go on: nothing is different afterwards."""

import dataclasses

import pytest
import torch

from stavatar import config
from stavatar.errors import InputError
from stavatar.refinement import Keep, refine, refine_tracking
from stavatar.refinement.checkpoint import NAME, fingerprint
from stavatar.refinement.refine import Round
from stavatar.training import checkpoint
from stavatar.training.trainer import Trainer

TRACKING = config.preset("cpu").tracking
ROUNDS = (Round(4, 2, face=False, reach=1.6), Round(3, 1))
SAVED = [*["fit"] * 4, *["align"] * 3, "round", *["fit"] * 3, *["align"] * 2, "round"]
"""What each checkpoint comes after, where one is written at every opportunity."""


@pytest.fixture(scope="module", autouse=True)
def short():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refine, "ROUNDS", ROUNDS)
        yield


@pytest.fixture(scope="module")
def clip(shaken):
    return shaken[0]


@pytest.fixture(scope="module")
def whole(clip, head):
    return refine_tracking(clip, head, TRACKING)


class Killed(BaseException):
    pass


@pytest.fixture
def killed_after(clip, head, tmp_path, monkeypatch):
    """Refine until so many checkpoints were written; then go no further."""

    def refine_until(count: int) -> Keep:
        keep, written = Keep(tmp_path, 0.0), []
        write = checkpoint.write

        def write_and_die(*arguments):
            write(*arguments)
            written.append(1)
            if len(written) == count:
                raise Killed

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(checkpoint, "write", write_and_die)
            refine_tracking(clip, head, TRACKING, keep=keep)
        return keep

    return refine_until


def require_same(found, expected):
    for name, value in expected.parameters.items():
        assert torch.equal(getattr(found.parameters, name), value), name
    assert torch.equal(found.confidence, expected.confidence) and torch.equal(found.train, expected.train)


@pytest.mark.parametrize(
    "count",
    [6, 12, *(pytest.param(count, marks=pytest.mark.slow) for count in (3, 7, 8))],
    ids=lambda count: f"{count}-{SAVED[count - 1]}",
)
def test_a_killed_refinement_goes_on_to_the_very_same_result(clip, head, whole, killed_after, monkeypatch, count):
    keep = killed_after(count)
    step, steps = Trainer.train_step, []
    monkeypatch.setattr(Trainer, "train_step", lambda *all_: (steps.append(1), step(*all_))[1])
    looks, look = [], refine.align
    monkeypatch.setattr(refine, "align", lambda *all_, report, **more: look(*all_, report=looks.append, **more))
    require_same(refine_tracking(clip, head, TRACKING, keep=keep), whole)
    left = SAVED[count:]
    assert len(steps) == left.count("fit"), "what was fitted is not fitted again"
    assert sum(looks) == 12 * left.count("align"), "nor are frames looked at again"
    keep.clear()
    assert not list(keep.folder.iterdir())


def test_it_may_be_killed_again_and_again(clip, head, whole, killed_after):
    for _ in SAVED:
        keep = killed_after(1)
    require_same(refine_tracking(clip, head, TRACKING, keep=keep), whole)


def test_an_interruption_is_kept_though_no_checkpoint_was_due(clip, head, whole, tmp_path, monkeypatch):
    keep, step = Keep(tmp_path, 3600.0), Trainer.train_step

    def interrupted(trainer, *arguments):
        step(trainer, *arguments)
        if trainer.step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "train_step", interrupted)
        refine_tracking(clip, head, TRACKING, keep=keep)
    steps = []
    monkeypatch.setattr(Trainer, "train_step", lambda *all_: (steps.append(1), step(*all_))[1])
    require_same(refine_tracking(clip, head, TRACKING, keep=keep), whole)
    assert len(steps) == 2


def test_checkpoints_wait_until_they_are_due(clip, head, whole, tmp_path):
    require_same(refine_tracking(clip, head, TRACKING, keep=Keep(tmp_path, 3600.0)), whole)
    assert not list(tmp_path.iterdir())


def test_what_is_of_another_refinement_is_left_alone(clip, head, whole, killed_after, capsys):
    keep = killed_after(9)
    tensors, header = checkpoint.read(keep.path)
    checkpoint.write(keep.path, tensors, header | {"belongs_to": "others"})
    require_same(refine_tracking(clip, head, TRACKING, keep=Keep(keep.folder, 3600.0)), whole)
    assert "refinement.safetensors is of other frames or settings, and not used" in capsys.readouterr().err


def test_whatever_changes_the_result_makes_it_another_refinement(clip):
    changed = clip.images.clone()
    changed[3, 20, 30, 1] ^= 1
    neck = clip.parameters.neck.clone()
    neck[2, 0] += 1e-6
    prints = [
        fingerprint(sequence, settings, rounds)
        for sequence, settings, rounds in (
            (clip, TRACKING, ROUNDS),
            (dataclasses.replace(clip, images=changed), TRACKING, ROUNDS),
            (dataclasses.replace(clip, shape=clip.shape + 1e-6), TRACKING, ROUNDS),
            (dataclasses.replace(clip, train=clip.train[1:]), TRACKING, ROUNDS),
            (dataclasses.replace(clip, camera=clip.camera.resized(65, 64)), TRACKING, ROUNDS),
            (dataclasses.replace(clip, parameters=clip.parameters.replaced(neck=neck)), TRACKING, ROUNDS),
            (clip, dataclasses.replace(TRACKING, smooth=2.0), ROUNDS),
            (clip, TRACKING, ROUNDS[:1]),
        )
    ]
    assert len(set(prints)) == len(prints)
    assert fingerprint(dataclasses.replace(clip, images=clip.images.clone()), TRACKING, ROUNDS) == prints[0]


def test_a_damaged_one_is_named(clip, head, killed_after):
    keep = killed_after(6)
    tensors, header = checkpoint.read(keep.path)
    content = keep.path.read_bytes()
    keep.path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=f"{NAME} is not a readable checkpoint .* delete it to start over"):
        refine_tracking(clip, head, TRACKING, keep=keep)
    for name in ("parameters.neck", "descent.normal", "error", "likeness.avatar.gaussians.position"):
        checkpoint.write(keep.path, tensors | {name: tensors[name].new_zeros(2, 2)}, header)
        with pytest.raises(InputError, match=f"{NAME} does not fit this run .* delete it to start over"):
            refine_tracking(clip, head, TRACKING, keep=keep)

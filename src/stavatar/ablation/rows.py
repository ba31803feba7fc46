"""The rows of an ablation table: named sets of settings that are changed against the base."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from stavatar.errors import InputError

Group = Literal["base", "paper", "improvements", "own"]


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        name: also the name of its folder.
        group: where it comes from.
        settings: assignments as ``--set`` takes them, on top of the base.
        meaning: what it shows, in a few words.
    """

    name: str
    group: Group
    settings: tuple[str, ...]
    meaning: str


FULL = Row("full", "base", (), "the base settings as they are: what all other rows are compared with")

PAPER = (
    Row("no_soft_binding", "paper", ("network.enabled=false",), "hard binding alone, without the offset network"),
    Row("no_local_branch", "paper", ("network.local_branch=false",), "the network's global branch alone"),
    Row("no_perceptual", "paper", ("training.lpips=0",), "no perceptual loss"),
    Row("no_adc", "paper", ("density.control=none",), "no density control: the Gaussians that training starts with"),
    Row(
        "positional_gradients",
        "paper",
        ("density.control=gradient",),
        "positional gradients in place of the fused perceptual error",
    ),
    Row("no_ftc", "paper", ("schedule.order=shuffled",), "no temporal clustering: all frames shuffled"),
)
"""The paper's own ablation."""

IMPROVEMENTS = (
    Row(
        "exact_error",
        "improvements",
        ("density.estimator=exact",),
        "the error under each splat, weighted as it blends, in place of the error in a box",
    ),
    Row("face_frame", "improvements", ("network.offset_frame=face",), "position offsets turn with the face"),
    Row("uv_reference", "improvements", ("network.reference=uv",), "the reference picture unprojected into UV"),
    Row(
        "mean_reference",
        "improvements",
        ("network.reference=mean",),
        "the mean of all training pictures in UV, weighted by visibility",
    ),
    Row(
        "inherit_uv",
        "improvements",
        ("density.uv=inherit",),
        "UV coordinates stay at densification, and children inherit theirs",
    ),
    Row("interleaved", "improvements", ("schedule.order=interleaved",), "clusters take turns instead of queueing"),
    Row(
        "best_reference", "improvements", ("gaussians.reference=best",), "a frontal, relaxed and sharp reference frame"
    ),
    Row(
        "all_improvements",
        "improvements",
        (
            "density.estimator=exact",
            "network.offset_frame=face",
            "network.reference=mean",
            "density.uv=inherit",
            "schedule.order=interleaved",
            "gaussians.reference=best",
        ),
        "all of these at once; of the two reference maps, the mean",
    ),
)
"""What might be better than the paper (weak spots of the method)."""

GROUPS: dict[str, tuple[Row, ...]] = {
    "paper": PAPER,
    "improvements": IMPROVEMENTS,
    "all": PAPER + IMPROVEMENTS,
}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_TAKEN = ("sequence", "avatar", "pictures")  # folders that the ablation's own folder holds or may hold
_NEXT_SETTING = re.compile(r",(?=\s*\w+\.\w+\s*=)")


def own_row(text: str) -> Row:
    """A row that a user has written as ``name:section.field=value,section.field=value``.

    Values may hold commas themselves: a new setting begins only where ``section.field=`` follows.

    Raises:
        InputError: it is not written so, or the name cannot be a folder's.
    """
    name, separator, settings = text.partition(":")
    if not separator or not settings.strip():
        raise InputError(f"--row {text}: expected name:section.field=value,section.field=value")
    if not _NAME.fullmatch(name) or name in _TAKEN:
        raise InputError(f"--row {text}: a row's name is made of letters, digits, _ and -, and is none of {_TAKEN}")
    return Row(name, "own", tuple(part.strip() for part in _NEXT_SETTING.split(settings)), "given by the user")


def choose_rows(names: str, own: list[str]) -> list[Row]:
    """The rows that were asked for, each once, :data:`FULL` always first and the user's own last.

    Args:
        names: group names and row names, separated by commas; may be empty.
        own: rows as :func:`own_row` takes them.

    Raises:
        InputError: a name is unknown, or two rows have the same one.
    """
    known = {row.name: row for row in (FULL, *GROUPS["all"])}
    chosen = {FULL.name: FULL}
    for name in filter(None, (part.strip() for part in names.split(","))):
        if name not in known and name not in GROUPS:
            raise InputError(f"--rows {name}: expected {', '.join(GROUPS)}, or some of {', '.join(known)}")
        chosen |= {row.name: row for row in GROUPS.get(name, (known.get(name, FULL),))}
    for text in own:
        row = own_row(text)
        if row.name in known or row.name in chosen:
            raise InputError(f"--row {text}: there is a row {row.name} already; choose another name")
        chosen[row.name] = row
    return list(chosen.values())

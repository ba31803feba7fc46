"""Whether a clip is fit to make an avatar of: what is wrong with it, in which frames, and what to do.

Every finding rests on a number and a threshold named here. The thresholds are so wide that ordinary recordings stay
below them: advice that is always given is advice that nobody reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stavatar.capture.conditions import Conditions
from stavatar.capture.observations import Observations
from stavatar.sequence.sequence import Sequence
from stavatar.tracking.gaps import LEAST_CONFIDENCE, LONGEST_BRIDGE, LOST, frame_states
from stavatar.tracking.landmark_groups import OUTER_EYE_CORNERS

SMALL_FACE = 40
"""Outer-eye distance in pixels below which landmarks get coarse."""

FEW_USABLE = 0.6
"""Share of tracked frames below which a clip is a poor one."""

LARGE_RESIDUAL = 2.0
"""Landmark error in % above which something is wrong with a clip."""

PROFILE = 40
"""Degrees that a head is turned to the side from where half of the face is hidden."""

BLURRED = 0.22
"""Sharpness of a face below which its features are smeared (`Conditions.sharpness`; ordinary clips have 0.6 to 0.7)."""

BLURRED_AGAINST_CLIP = 0.45
"""Sharpness over that of the clip's sharp frames, its upper quartile, below which a frame is blurred by motion."""

BACKGROUND_MOVES, TORSO_MOVES = 3.0, 10.0
"""How far background and clothes may be from their median place, % of the picture's side."""

SHAKING = 1.0
"""Step of the background from frame to frame, % of the picture's side, that only a hand makes."""

DARK, CLIPPED = 0.12, 0.20
"""Median grey level of a face, and share of its pixels that are white or black, beyond which it has lost its detail."""

BEYOND_BORDER = 0.03
"""Share of a face's landmarks beyond the picture's border."""

HELD = 0.25
"""Root of the summed variances of the blendshape scores below which a face hardly moves; a news reader has 0.5."""

A_FEW, MANY = 0.05, 0.5
"""Share of the frames that must show a fault before anything is said: of faults that spoil the frames that have them,
and of those that a clip can bear in some frames."""

MANY_GAPS = 4
"""Gaps a minute from which the face is lost again and again."""


@dataclass(frozen=True)
class Advice:
    """One thing that may spoil the result.

    Attributes:
        topic: a word or two.
        reason: what was measured, and against what.
        remedy: what to do about it.
        frames: indices of the frames concerned, into the sequence; empty where it is all of them.
        numbers: the same frames as ranges of the video's own frame numbers.
    """

    topic: str
    reason: str
    remedy: str
    frames: tuple[int, ...] = ()
    numbers: str = ""

    def described(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "topic": self.topic,
            "reason": self.reason,
            "remedy": self.remedy,
            "frames": self.numbers,
            "count": len(self.frames),
        }

    def __str__(self) -> str:
        where = f" (frames {self.numbers})" if self.numbers else ""
        return f"{self.reason}{where}: {self.remedy}"


def advise(observations: Observations, sequence: Sequence, *, turns: Tensor, residual: float) -> tuple[Advice, ...]:
    """What may spoil the result; empty where all is well.

    Args:
        observations: of the clip.
        sequence: what was tracked; its confidence tells which frames had a face.
        turns: [N, 3, 3] of the head in camera space in the frames with a detection.
        residual: mean landmark error, %.
    """
    assert sequence.confidence is not None  # every tracker of ours gives one
    known = torch.nonzero(sequence.confidence > 0)[:, 0]
    numbers = sequence.frame_ids
    found = [
        *_of_the_face(observations, known, numbers),
        *_of_the_tracking(sequence, residual),
        *_of_the_head(turns, known, numbers),
        *_of_the_expression(observations, known),
    ]
    if observations.conditions is not None:
        found += _of_the_picture(observations.conditions, numbers)
        found += _of_the_camera(observations.conditions, numbers)
    return tuple(found)


def frame_ranges(numbers: Tensor, most: int = 4) -> str:
    """Sorted frame numbers [N] in words: "3-17, 40" with the rest counted; neighbours with small gaps are one range."""
    if not len(numbers):
        return ""
    starts = torch.cat([torch.tensor([True]), numbers.diff() > 5])
    first = numbers[starts].tolist()
    last = numbers[torch.cat([starts[1:], torch.tensor([True])])].tolist()
    words = [str(a) if a == b else f"{a}-{b}" for a, b in zip(first, last, strict=True)]
    more = f" and {len(words) - most} more places" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def _advice(topic: str, reason: str, remedy: str, where: Tensor, numbers: Tensor) -> Advice:
    """Advice on the frames `where` [T] (bool) holds; `numbers` [T] are the video's."""
    frames = torch.nonzero(where)[:, 0]
    return Advice(topic, reason, remedy, tuple(frames.tolist()), frame_ranges(numbers[frames]))


def _of_the_face(observations: Observations, known: Tensor, numbers: Tensor) -> list[Advice]:
    right, left = OUTER_EYE_CORNERS
    points = observations.landmarks
    distance = (points[:, right] - points[:, left]).norm(dim=1)
    median = float(distance[known].median())
    if median >= SMALL_FACE:
        return []
    return [
        _advice(
            "small face",
            f"the face is small: the eye corners are {median:.0f} px apart, and {SMALL_FACE} are needed",
            "come closer, crop the video, or take a larger one",
            distance < SMALL_FACE,
            numbers,
        )
    ]


def _of_the_tracking(sequence: Sequence, residual: float) -> list[Advice]:
    confidence, numbers, found = sequence.confidence, sequence.frame_ids, []
    assert confidence is not None
    usable, missing = confidence >= LEAST_CONFIDENCE, confidence == 0
    total = len(confidence)
    if usable.sum() < FEW_USABLE * total:
        found.append(
            _advice(
                "few usable frames",
                f"only {int(usable.sum())} of {total} frames could be tracked ({int((~missing).sum())} with a face)",
                "use a clip in which the face stays visible",
                ~usable,
                numbers,
            )
        )
    gaps = int(torch.nn.functional.pad(missing.int(), (1, 0)).diff().eq(1).sum())
    lost = frame_states(confidence, sequence.fps) == LOST
    minutes = total / sequence.fps / 60
    if (gaps > 1 and gaps > MANY_GAPS * minutes) or lost.sum() > A_FEW * total:
        found.append(
            _advice(
                "gaps",
                f"the face is lost {gaps} times, {int(missing.sum())} of {total} frames in all, of which "
                f"{int(lost.sum())} lie in gaps of more than {LONGEST_BRIDGE:g} s that are not bridged",
                "keep the face in view, turned to the camera, with nothing in front of it",
                missing,
                numbers,
            )
        )
    if residual > LARGE_RESIDUAL:
        found.append(
            Advice(
                "poor fit",
                f"the head does not fit its landmarks well ({residual:.1f} % of the eye distance, usually below "
                f"{LARGE_RESIDUAL:g})",
                "expect a blurred avatar; is it the same person throughout, unobstructed?",
            )
        )
    return found


def _of_the_head(turns: Tensor, known: Tensor, numbers: Tensor) -> list[Advice]:
    """Whether the face was ever seen from the front. The camera looks along +z, so a frontal face has its z at -z."""
    yaw = torch.atan2(turns[:, 0, 2], -turns[:, 2, 2]).rad2deg().abs()
    turned = torch.zeros(len(numbers), dtype=torch.bool)
    turned[known] = yaw > PROFILE
    if turned.sum() <= MANY * len(known):
        return []
    return [
        _advice(
            "profile only",
            f"{int(turned.sum())} of {len(known)} frames show the face from the side (turned by more than {PROFILE} "
            "degrees)",
            "look into the camera for most of the time",
            turned,
            numbers,
        )
    ]


def _of_the_expression(observations: Observations, known: Tensor) -> list[Advice]:
    spread = float(observations.blendshapes[known].var(0).sum().sqrt())
    if spread >= HELD:
        return []
    return [
        Advice(
            "held expression",
            f"the face hardly moves (its blendshape scores vary by {spread:.2f} together, talking by {2 * HELD:g})",
            "talk, smile, blink and open the mouth: what was never shown cannot be learned",
        )
    ]


def _of_the_picture(seen: Conditions, numbers: Tensor) -> list[Advice]:
    """Second faces, cut-off faces, blur and light."""
    found, total = [], len(numbers)
    with_face = int(seen.brightness.isfinite().sum())
    crowded = seen.other_faces > 0
    if crowded.sum() > A_FEW * total:
        found.append(
            _advice(
                "second face",
                f"{int(crowded.sum())} of {total} frames show more than one face; the largest one is followed",
                "film one person alone, or crop the others away",
                crowded,
                numbers,
            )
        )
    cut = seen.outside > BEYOND_BORDER
    if cut.sum() > A_FEW * total:
        found.append(
            _advice(
                "cut by the border",
                f"in {int(cut.sum())} of {total} frames the picture's border cuts off part of the face",
                "leave room around the head",
                cut,
                numbers,
            )
        )
    sharpness = seen.sharpness.nanquantile(0.75)  # of the frames in which nothing moves
    if sharpness < BLURRED:
        found.append(
            _advice(
                "blur",
                f"the face is blurred (sharpness {float(sharpness):.2f}, {BLURRED} are needed)",
                "focus on the face, clean the lens, leave out filters, take a larger video",
                seen.sharpness < BLURRED,
                numbers,
            )
        )
    smeared = seen.sharpness < BLURRED_AGAINST_CLIP * sharpness
    if sharpness >= BLURRED and smeared.sum() > A_FEW * total:
        found.append(
            _advice(
                "motion blur",
                f"{int(smeared.sum())} of {total} frames are blurred against the others",
                "more light, so that the shutter is shorter; turn the head more slowly",
                smeared,
                numbers,
            )
        )
    for topic, wrong, reason, remedy in (
        ("too dark", seen.brightness < DARK, f"is darker than {100 * DARK:.0f} % grey", "more light from the front"),
        (
            "over-exposed",
            seen.clipped > CLIPPED,
            f"is white or black in more than {100 * CLIPPED:.0f} % of its pixels",
            "less or softer light; lock the exposure on the face",
        ),
    ):
        if wrong.sum() > MANY * with_face:
            found.append(
                _advice(topic, f"in {int(wrong.sum())} of {with_face} frames the face {reason}", remedy, wrong, numbers)
            )
    return found


def _of_the_camera(seen: Conditions, numbers: Tensor) -> list[Advice]:
    found, total = [], len(numbers)
    step = torch.nn.functional.pad(seen.background.diff(dim=0).norm(dim=1), (1, 0))
    for topic, places, limit, reason, remedy in (
        (
            "moving camera",
            seen.background,
            BACKGROUND_MOVES,
            "the background moves by up to {:.0f} % of the picture",
            "put the camera on something firm, in front of a background that stays",
        ),
        (
            "moving torso",
            seen.torso,
            TORSO_MOVES,
            "the shoulders move by up to {:.0f} % of the picture",
            "sit still and move the head alone, or the torso will blur",
        ),
    ):
        away = (places - places.nanmedian(0).values).norm(dim=1)
        far = away > limit
        shaking = topic == "moving camera" and (step > SHAKING).sum() > A_FEW * total
        if far.sum() > A_FEW * total or shaking:
            where = far | (step > SHAKING) if shaking else far
            most = away[away.isfinite()].quantile(0.95)
            found.append(_advice(topic, reason.format(float(most)), remedy, where, numbers))
    return found

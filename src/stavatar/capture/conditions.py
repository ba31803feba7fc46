"""What spoils a clip, as far as it shows in the pictures: measured here, judged by :mod:`stavatar.tracking.advice`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from stavatar.parallel import threads

THUMBNAIL = 160
"""Side of the grey pictures in which movement is looked for, pixels."""

FACE_SIDE = 96
"""Faces are looked at in squares of this size, so that their figures do not depend on how large they are."""

_KEEP = 15  # frames after which new points are chosen to follow
_POINTS, _FEWEST_POINTS = 60, 8
_FOLLOWED_BACK = 0.5  # pixels within which a point must come back when followed backwards
_AGREES, _MOST_AGREE = 0.7, 0.7  # pixels, and the share of points that move as one body within them
_BORDER = 4  # pixels that points keep from the outline of the person
_BLACK, _WHITE = 8, 250


@dataclass(frozen=True)
class Conditions:
    """Of T frames; NaN where there is nothing to measure, such as a face that was not found.

    Attributes:
        other_faces: [T] int64 faces besides the one that is followed.
        outside: [T] share of the face's landmarks that lie beyond the border of the video.
        background: [T, 2] where the background is, relative to the first frame that shows some: % of the crop's side.
        torso: [T, 2] likewise the clothes.
        sharpness: [T] contrast of the face's finest detail (second derivative, in the direction that has less of it)
            over that of the whole face, seen `FACE_SIDE` pixels large.
        brightness: [T] median of the face's grey levels, in [0, 1].
        clipped: [T] share of the face's pixels that are white or black.
    """

    other_faces: Tensor
    outside: Tensor
    background: Tensor
    torso: Tensor
    sharpness: Tensor
    brightness: Tensor
    clipped: Tensor


def outside_of(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """Share [T] of landmarks [T, L, 3] that lie beyond a picture's border."""
    x, y = points[..., 0], points[..., 1]
    share = ((x < 0) | (y < 0) | (x > width) | (y > height)).mean(1)
    return np.where(np.isnan(x[:, 0]), np.nan, share).astype(np.float32)


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """Grey [THUMBNAIL, THUMBNAIL] uint8 of a square picture [S, S, 3]."""
    small = cv2.resize(picture, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)


def look_at_face(picture: np.ndarray, points: np.ndarray) -> tuple[float, float, float]:
    """(sharpness, brightness, clipped) of the face with landmarks `points` [L, 2] in a picture [S, S, 3] uint8."""
    (left, top), (right, bottom) = points.min(0).astype(int), np.ceil(points.max(0)).astype(int)
    size = picture.shape[0]
    face = picture[max(top, 0) : min(bottom, size), max(left, 0) : min(right, size)]
    if min(face.shape[:2]) < 4:
        return float("nan"), float("nan"), float("nan")
    shrink = cv2.INTER_AREA if max(face.shape[:2]) > FACE_SIDE else cv2.INTER_CUBIC
    square = cv2.resize(face, (FACE_SIDE, FACE_SIDE), interpolation=shrink)
    inside = np.zeros((FACE_SIDE, FACE_SIDE), np.uint8)
    middle = (FACE_SIDE // 2, FACE_SIDE // 2)
    cv2.ellipse(inside, middle, (int(0.38 * FACE_SIDE), int(0.44 * FACE_SIDE)), 0, 0, 360, 255, -1)
    skin = square[inside > 0]
    grey = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY).astype(np.float32)
    # A head that moves sideways is blurred sideways only: the blurrier of the two directions counts.
    detail = min(float(cv2.Sobel(grey, cv2.CV_32F, *order)[inside > 0].std()) for order in ((2, 0), (0, 2)))
    contrast = max(float(grey[inside > 0].std()), 1.0)
    clipped = ((skin >= _WHITE).all(1) | (skin <= _BLACK).all(1)).mean()
    return detail / contrast, float(np.median(grey[inside > 0])) / 255, float(clipped)


def follow(thumbnails: list[np.ndarray], masks: list[np.ndarray]) -> np.ndarray:
    """How far what lies inside the masks has moved since the first frame that shows some of it [T, 2], % of the side.

    Corners are followed by optical flow (Lucas and Kanade 1981) from key frames; what counts is their common movement.

    Args:
        thumbnails: T grey pictures.
        masks: T of the same size, uint8; 255 where points may be chosen and found again.
    """
    places = np.full((len(thumbnails), 2), np.nan, np.float32)
    key, key_place = -1, np.zeros(2, np.float32)
    corners: np.ndarray = np.zeros((0, 1, 2), np.float32)
    for t, (picture, mask) in enumerate(zip(thumbnails, masks, strict=True)):
        if key >= 0:
            moved = _moved(thumbnails[key], picture, corners, mask)
            if moved is not None:
                places[t] = key_place + 100 * moved / THUMBNAIL
        if key < 0 or t - key >= _KEEP or np.isnan(places[t, 0]):
            found = cv2.goodFeaturesToTrack(picture, _POINTS, 0.02, 5, mask=mask)
            if found is not None and len(found) >= _FEWEST_POINTS:
                # Where points were lost, the place they were last seen at is kept: movement meanwhile goes unseen.
                seen = places[: t + 1][~np.isnan(places[: t + 1, 0])]
                key_place = seen[-1] if len(seen) else np.zeros(2, np.float32)
                key, corners, places[t] = t, found, key_place
    return places


def _moved(before: np.ndarray, after: np.ndarray, corners: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """Movement [2] of what `corners` [N, 1, 2] lie on, pixels at their middle.

    None where too few are found again inside the mask, or where they do not move as one: leaves in the wind, a screen.
    """
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, corners.copy(), winSize=(13, 13), maxLevel=2)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(after, before, there, there.copy(), winSize=(13, 13), maxLevel=2)
    column, row = (there[:, 0].round().astype(int).clip(0, THUMBNAIL - 1)).T
    good = (found[:, 0] > 0) & (returned[:, 0] > 0) & (mask[row, column] > 0)
    good &= np.linalg.norm(back - corners, axis=2)[:, 0] < _FOLLOWED_BACK
    if good.sum() < _FEWEST_POINTS:
        return None
    motion, agreed = cv2.estimateAffinePartial2D(corners[good], there[good], ransacReprojThreshold=_AGREES)
    if motion is None or agreed.mean() < _MOST_AGREE:
        return None
    middle = corners[good][:, 0].mean(0)
    return motion[:, :2] @ middle + motion[:, 2] - middle


def background_masks(mattes: np.ndarray, inside: np.ndarray) -> list[np.ndarray]:
    """Where only the background is, in thumbnails; `inside` [S, S] is where the crop shows any video."""
    valid = _small(inside.astype(np.uint8) * 255) > 250
    return [_shrunk((_small(matte) < 8) & valid) for matte in mattes]


def torso_masks(mattes: np.ndarray, chins: np.ndarray) -> list[np.ndarray]:
    """Where only the person is, well below the chin at row `chins` [T] of the crop; nowhere where that is NaN."""
    rows = np.arange(THUMBNAIL)[:, None]
    below = np.nan_to_num(chins * THUMBNAIL / mattes.shape[1], nan=THUMBNAIL) + 0.06 * THUMBNAIL
    return [_shrunk((_small(matte) > 247) & (rows > chin)) for matte, chin in zip(mattes, below, strict=True)]


def _small(mask: np.ndarray) -> np.ndarray:
    return cv2.resize(mask, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)


def _shrunk(mask: np.ndarray) -> np.ndarray:
    kernel = np.ones((2 * _BORDER + 1, 2 * _BORDER + 1), np.uint8)
    return cv2.erode(mask.astype(np.uint8) * 255, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=255)


def conditions_of(
    *,
    images: np.ndarray,
    mattes: np.ndarray,
    thumbnails: list[np.ndarray],
    inside: np.ndarray,
    landmarks: np.ndarray,
    outside: np.ndarray,
    other_faces: np.ndarray,
) -> Conditions:
    """Put together what T frames show.

    Args:
        images, mattes: [T, S, S, 3] over white, and [T, S, S].
        thumbnails: T, of the crops with their background.
        inside: [S, S] bool, where the crop shows any of the video.
        landmarks: [T, L, 3] pixels of the crop, NaN where there is no face.
        outside, other_faces: [T].
    """
    seen = ~np.isnan(landmarks[:, 0, 0])
    chins = np.where(seen, landmarks[:, :, 1].max(1), np.nan)
    with ThreadPoolExecutor(max_workers=threads()) as pool:
        background = pool.submit(lambda: follow(thumbnails, background_masks(mattes, inside)))
        torso = pool.submit(lambda: follow(thumbnails, torso_masks(mattes, chins)))
        faces = np.full((len(images), 3), np.nan, np.float32)
        found = np.flatnonzero(seen)
        looks = pool.map(lambda t: look_at_face(images[t], landmarks[t, :, :2]), found)
        for t, look in zip(found, looks, strict=True):
            faces[t] = look
    sharpness, brightness, clipped = torch.from_numpy(faces).unbind(1)
    return Conditions(
        other_faces=torch.from_numpy(other_faces.astype(np.int64)),
        outside=torch.from_numpy(outside),
        background=torch.from_numpy(background.result()),
        torso=torch.from_numpy(torso.result()),
        sharpness=sharpness,
        brightness=brightness,
        clipped=clipped,
    )

"""Small data sets in the layouts of the field, written as their makers write them, with known geometry.

Each writer takes a folder and a :class:`Truth` and returns where the layout's own formulas, spelled out here in numpy,
put the head's vertices: pixels [T, V, 2]. A reader is right if our head and camera put them there too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from stavatar.head.model import HeadModel
from stavatar.head.parameters import HeadParameters

FRAMES, VERTICES = 4, 30


def tiny_flame(shapes: int, expressions: int, name: str = "flame-2020-tiny") -> HeadModel:
    """A cloud of 30 points with made-up bases and FLAME's five joints, about as large as a head."""
    rng = np.random.default_rng(5)
    weights = rng.random((VERTICES, 5)) ** 4
    count = VERTICES - 2
    return HeadModel(
        name=name,
        template=rng.normal(0, 0.08, (VERTICES, 3)),
        shape_basis=rng.normal(0, 0.002, (shapes, VERTICES, 3)),
        expression_basis=rng.normal(0, 0.002, (expressions, VERTICES, 3)),
        expression_names=[f"expression{i}" for i in range(expressions)],
        joints=np.array([[0, -0.15, -0.02], [0, -0.05, -0.03], [0, 0, 0.01], [0.03, 0.04, 0.06], [-0.03, 0.04, 0.06]]),
        joint_basis=rng.normal(0, 0.001, (shapes, 5, 3)),
        weights=weights / weights.sum(1, keepdims=True),
        faces=np.stack([np.arange(count), np.arange(count) + 1, np.arange(count) + 2], 1),
        uv=rng.random((VERTICES, 2)),
        uv_faces=np.stack([np.arange(count), np.arange(count) + 1, np.arange(count) + 2], 1),
        regions=np.zeros(count, dtype=np.int64),
        jaw_by_expression=False,
    )


@dataclass
class Truth:
    """A performance of the tiny head in float64 arrays: identity, poses, and the pictures' size."""

    head: HeadModel
    shape: np.ndarray
    expression: np.ndarray
    jaw: np.ndarray
    eyes: np.ndarray
    width: int = 64
    height: int = 64

    @staticmethod
    def make(shapes: int = 300, expressions: int = 100, *, width: int = 64, height: int = 64) -> Truth:
        rng = np.random.default_rng(8)
        return Truth(
            head=tiny_flame(shapes, expressions),
            shape=rng.normal(0, 1, shapes),
            expression=rng.normal(0, 1, (FRAMES, expressions)),
            jaw=np.abs(rng.normal(0, 0.1, (FRAMES, 3))),
            eyes=rng.normal(0, 0.2, (FRAMES, 6)),
            width=width,
            height=height,
        )

    def vertices(self, **pose: np.ndarray) -> np.ndarray:
        """[T, V, 3] metres, posed by root, neck and translation given in `pose` (zero where not)."""
        values = {name: np.zeros((FRAMES, 3)) for name in ("rotation", "neck", "translation", "neck_translation")}
        values |= {"expression": self.expression, "jaw": self.jaw, "eyes": self.eyes, **pose}
        parameters = HeadParameters(**{name: torch.from_numpy(value).float() for name, value in values.items()})
        return self.head(torch.from_numpy(self.shape).float(), parameters).vertices.double().numpy()


def picture(path: Path, width: int, height: int, mode: str = "RGB", number: int = 0) -> None:
    """A grey gradient with a bright square, in which the person is the left half (alpha 255, the rest 0)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 0] = np.linspace(20, 200, width)
    rgb[..., 1] = 10 * number
    if mode == "RGB":
        Image.fromarray(rgb).save(path)
    elif mode == "RGBA":
        Image.fromarray(np.dstack([rgb, half(width, height)])).save(path)
    else:
        Image.fromarray(half(width, height)).save(path)


def half(width: int, height: int) -> np.ndarray:
    """The mask of all pictures [H, W]."""
    mask = np.zeros((height, width), np.uint8)
    mask[:, : width // 2] = 255
    return mask


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def edit_json(path: Path, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# -------------------------------------------------------------------------------------------------------------- VHAP


def write_vhap(folder: Path, truth: Truth, cameras: tuple[int, ...] = (0,)) -> np.ndarray:
    """VHAP's export of one or several calibrated cameras; the last of four timesteps is the test split.

    Returns pixels [T, C, V, 2].
    """
    rng = np.random.default_rng(1)
    rotation, neck = rng.normal(0, 0.2, (2, FRAMES, 3))
    translation = rng.normal(0, 0.02, (FRAMES, 3))
    vertices = truth.vertices(rotation=rotation, neck=neck, translation=translation)
    focal, center = (90.0, 95.0), (truth.width / 2 + 1.5, truth.height / 2 - 0.5)
    frames, pixels = [], np.zeros((FRAMES, len(cameras), VERTICES, 2))
    for step in range(FRAMES):
        static = {
            "translation": translation[step : step + 1],
            "rotation": rotation[step : step + 1],
            "neck_pose": neck[step : step + 1],
            "jaw_pose": truth.jaw[step : step + 1],
            "eyes_pose": truth.eyes[step : step + 1],
            "shape": truth.shape,
            "expr": truth.expression[step : step + 1],
            "static_offset": np.zeros((1, 5143, 3)),
        }
        (folder / "flame_param").mkdir(parents=True, exist_ok=True)
        np.savez(folder / f"flame_param/{step:05d}.npz", **{k: v.astype(np.float32) for k, v in static.items()})
        for place, camera in enumerate(cameras):
            to_world = np.eye(4)
            to_world[:3, :3] = Rotation.from_euler("yx", [0.3 * place, 0.1 * place]).as_matrix()
            to_world[:3, 3] = to_world[:3, :3] @ [0.05, 0.02, 1.0]
            seen = (vertices[step] - to_world[:3, 3]) @ to_world[:3, :3]  # OpenGL: y up, looks along -z
            pixels[step, place, :, 0] = center[0] + focal[0] * seen[:, 0] / -seen[:, 2]
            pixels[step, place, :, 1] = center[1] - focal[1] * seen[:, 1] / -seen[:, 2]
            name = f"{step:05d}_{camera:02d}.png"
            picture(folder / "images" / name, truth.width, truth.height, number=4 * step + place)
            picture(folder / "fg_masks" / name, truth.width, truth.height, "L")
            frames.append(
                {
                    "timestep_index": step,
                    "timestep_index_original": 3 * step,
                    "timestep_id": f"{3 * step:05d}",
                    "camera_index": camera,
                    "camera_id": f"2222000{camera:02d}",
                    "cx": center[0],
                    "cy": center[1],
                    "fl_x": focal[0],
                    "fl_y": focal[1],
                    "h": truth.height,
                    "w": truth.width,
                    "camera_angle_x": 2 * np.arctan(truth.width / 2 / focal[0]),
                    "camera_angle_y": 2 * np.arctan(truth.height / 2 / focal[1]),
                    "transform_matrix": to_world.tolist(),
                    "file_path": f"images/{name}",
                    "fg_mask_path": f"fg_masks/{name}",
                    "flame_param_path": f"flame_param/{step:05d}.npz",
                }
            )
    held_back = cameras[-1] if len(cameras) > 1 else None
    early = [frame for frame in frames if frame["timestep_index"] < FRAMES - 1]
    splits = {
        "": frames,
        "_train": [frame for frame in early if frame["camera_index"] != held_back],
        "_val": [frame for frame in early if frame["camera_index"] == held_back],
        "_test": [frame for frame in frames if frame["timestep_index"] == FRAMES - 1],
        "_backup": [{"stale": True}],
        "_backup_flame": [{"stale": True}],
    }
    for name, chosen in splits.items():
        stale = {"fl_x": 512, "fl_y": 512, "cx": 0, "cy": 0, "h": 1, "w": 1, "camera_angle_x": 1, "camera_angle_y": 1}
        listing = {"frames": chosen, "timestep_indices": list(range(FRAMES)), "camera_indices": list(cameras), **stale}
        write_json(folder / f"transforms{name}.json", listing)
    neutral = {key: np.zeros_like(value) for key, value in static.items()} | {"shape": truth.shape}
    neutral["jaw_pose"][0, 0] = 0.3
    np.savez(folder / "canonical_flame_param.npz", **{k: v.astype(np.float32) for k, v in neutral.items()})
    return pixels


def write_lam(folder: Path, truth: Truth) -> np.ndarray:
    """A VHAP export whose parameters are in one JSON file, expressions without the first frame's."""
    pixels = write_vhap(folder, truth)
    rows: dict[str, list] = {"translation": [], "rotation": [], "neck_pose": [], "jaw_pose": [], "eyes_pose": []}
    for step in range(FRAMES):
        with np.load(folder / f"flame_param/{step:05d}.npz") as data:
            for key, column in rows.items():
                column.append(data[key][0].astype(float).tolist())
        (folder / f"flame_param/{step:05d}.npz").unlink()
    (folder / "flame_param").rmdir()
    expr = [{f"expr{i}": float(value) for i, value in enumerate(row)} for row in truth.expression[1:]]
    write_json(folder / "flame_params.json", {**rows, "shape": truth.shape.tolist(), "expr": expr})
    return pixels[:, 0]


# ---------------------------------------------------------------------------------------------------------- IMavatar


def write_imavatar(folder: Path, truth: Truth, *, old: bool = False) -> np.ndarray:
    """IMavatar's preprocessing: everything four times as large, the head's rotation in the neck, fx < 0."""
    rng = np.random.default_rng(2)
    rotation, neck = 0.02 * rng.normal(0, 1, (FRAMES, 3)), rng.normal(0, 0.2, (FRAMES, 3))
    enlarged = 4 * truth.vertices(rotation=rotation, neck=neck)
    intrinsics = np.array([-1.5, 1.55, 0.51, 0.48])
    pixels, frames = np.zeros((FRAMES, VERTICES, 2)), []
    for step in range(FRAMES):
        world_mat = np.hstack([Rotation.from_rotvec([0, 0.02 * step, 0]).as_matrix(), [[0.1], [-0.05 * step], [-4.0]]])
        seen = enlarged[step] @ world_mat[:, :3].T + world_mat[:, 3]
        pixels[step, :, 0] = truth.width * (intrinsics[0] * seen[:, 0] / seen[:, 2] + intrinsics[2])
        pixels[step, :, 1] = truth.height * (intrinsics[1] * seen[:, 1] / seen[:, 2] + intrinsics[3])
        frames.append(
            {
                "file_path": f"./image/{step + 1}",
                "world_mat": world_mat.tolist(),
                "expression": truth.expression[step].tolist(),
                "pose": np.concatenate([rotation[step], neck[step], truth.jaw[step], truth.eyes[step]]).tolist(),
                "bbox": [-0.5, -0.5, 0.5, 0.5],
                "flame_keypoints": (2 * pixels[step] / truth.width - 1).tolist(),
            }
        )
        picture(folder / f"image/{step + 1}.png", truth.width, truth.height, number=step)
        picture(folder / f"mask/{step + 1}.png", truth.width, truth.height, "L")
    stored = intrinsics * 512 if old else intrinsics
    write_json(
        folder / "flame_params.json",
        {"frames": frames, "shape_params": truth.shape.tolist(), "intrinsics": stored.tolist()},
    )
    return pixels


# ------------------------------------------------------------------------------------------- metrical-tracker, INSTA


def moving_cameras() -> tuple[np.ndarray, np.ndarray]:
    """World-to-camera R [T, 3, 3] and t [T, 3] with OpenCV axes, nodding around the frontal view from a metre."""
    angles = np.random.default_rng(3).normal(0, 0.2, (FRAMES, 3))
    rotation = Rotation.from_rotvec(angles).as_matrix() @ np.diag([1.0, -1.0, -1.0])
    return rotation, np.array([[0.02, 0.01 * step, 1.0 + 0.1 * step] for step in range(FRAMES)])


def six(axis_angle: np.ndarray) -> np.ndarray:
    """Axis-angle [N, 3] -> the first two rows of each matrix [N, 6]."""
    return Rotation.from_rotvec(axis_angle).as_matrix()[:, :2].reshape(-1, 6)


def write_metrical(folder: Path, truth: Truth, *, enlarged: int = 1, mode: str = "RGBA", first: int = 0) -> np.ndarray:
    """The tracker's checkpoints and pictures `enlarged` times as large, counted from `first`."""
    vertices = truth.vertices()
    rotation, shift = moving_cameras()
    matrix = np.array([[80.0, 0, truth.width / 2 + 1], [0, 80.0, truth.height / 2 - 2], [0, 0, 1]])
    pixels = np.zeros((FRAMES, VERTICES, 2))
    (folder / "checkpoint").mkdir(parents=True)
    for step in range(FRAMES):
        seen = (vertices[step] @ rotation[step].T + shift[step]) @ matrix.T
        pixels[step] = enlarged * seen[:, :2] / seen[:, 2:]
        torch.save(
            {
                "flame": {
                    "exp": truth.expression[step : step + 1].astype(np.float32),
                    "shape": truth.shape[None].astype(np.float32),
                    "tex": np.zeros((1, 140), np.float32),
                    "sh": np.zeros((1, 9, 3), np.float32),
                    "eyes": six(truth.eyes[step].reshape(2, 3)).reshape(1, 12).astype(np.float32),
                    "eyelids": np.full((1, 2), 0.3, np.float32),
                    "jaw": six(truth.jaw[step : step + 1]).astype(np.float32),
                },
                "camera": {"R": np.zeros((1, 6), np.float32), "t": np.zeros((1, 3), np.float32)},
                "opencv": {
                    "R": rotation[step : step + 1].astype(np.float32),
                    "t": shift[step : step + 1].astype(np.float32),
                    "K": matrix[None].astype(np.float32),
                },
                "img_size": np.array([truth.height, truth.width]),
                "frame_id": f"{step:05d}",
                "global_step": 7 * step,
            },
            folder / f"checkpoint/{step:05d}.frame",
        )
        name = folder / f"images/{step + first:05d}.png"
        picture(name, enlarged * truth.width, enlarged * truth.height, mode, number=step)
    return pixels


def write_insta(folder: Path, truth: Truth) -> np.ndarray:
    """INSTA's export: OpenCV cameras under NeRF's names, meshes in world space, expressions as text."""
    vertices = truth.vertices()
    rotation, shift = moving_cameras()
    pixels, frames = np.zeros((FRAMES, VERTICES, 2)), []
    for step in range(FRAMES):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation[step], shift[step]
        seen = vertices[step] @ rotation[step].T + shift[step]
        pixels[step] = 80 * seen[:, :2] / seen[:, 2:] + [truth.width / 2 + 1, truth.height / 2 - 2]
        picture(folder / f"images/{step:05d}.png", truth.width, truth.height, "RGBA", number=step)
        for name, text in {
            f"meshes/{step:05d}.obj": "\n".join("v {} {} {}".format(*vertex) for vertex in vertices[step]),
            f"flame/exp/{step:05d}.txt": "\n".join(f"{value:.18e}" for value in truth.expression[step]),
        }.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        frames.append(
            {
                "transform_matrix": np.linalg.inv(pose).tolist(),
                "file_path": f"images/{step:05d}.png",
                "mesh_path": f"meshes/{step:05d}.obj",
                "exp_path": f"flame/exp/{step:05d}.txt",
                "depth_path": f"depth/{step:05d}.png",
                "seg_mask_path": f"seg_mask/{step:05d}.png",
            }
        )
    shared = {
        "w": float(truth.width),
        "h": float(truth.height),
        "cx": truth.width / 2 + 1,
        "cy": truth.height / 2 - 2,
        "fl_x": 80.0,
        "fl_y": 80.0,
        "integer_depth_scale": 0.001,
    }
    for name, chosen in {"": frames, "_train": frames[:2], "_test": frames[2:], "_val": frames[3:]}.items():
        write_json(folder / f"transforms{name}.json", {**shared, "frames": chosen})
    return pixels


# ----------------------------------------------------------------------------------------------------------- NerFace

NERFACE_INTRINSICS = np.array([-100.0, 101.0, 0.52, 0.47])  # fx and fy in pixels, cx and cy in sizes


def nerface_pose(step: int) -> np.ndarray:
    """Camera-to-world of one frame, half a unit away."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec([0.1 * step, 0.2, -0.05]).as_matrix()
    pose[:3, 3] = [0.01 * step, 0.02, 0.5]
    return pose


def write_nerface(folder: Path, truth: Truth) -> None:
    """NerFace's export; train and val are drawn from the first three frames."""
    for split, steps in {"train": [2, 0], "val": [1], "test": [3]}.items():
        frames = []
        for step in steps:
            picture(folder / f"{split}/f_{step:04d}.png", truth.width, truth.height, number=step)
            frames.append(
                {
                    "file_path": f"./{split}/f_{step:04d}",
                    "transform_matrix": nerface_pose(step).tolist(),
                    "expression": [0.1 * step] * 76,
                    "bbox": [0.1, 0.9, 0.2, 0.8],
                }
            )
        content = {"camera_angle_x": -0.6, "intrinsics": NERFACE_INTRINSICS.tolist(), "frames": frames}
        write_json(folder / f"transforms_{split}.json", content)
    picture(folder / "bg/00050.png", truth.width, truth.height)

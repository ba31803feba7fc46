"""What deforms: head models, their UV atlas, regions and landmarks."""

from stavatar.head.embedded import load_embedded_head
from stavatar.head.flame import load_flame
from stavatar.head.frames import FaceFrames, face_frames
from stavatar.head.landmarks import LandmarkEmbedding, load_embedded_landmarks
from stavatar.head.library import choose_head, load_head
from stavatar.head.model import REGIONS, HeadModel, PosedHead
from stavatar.head.parameters import HeadParameters
from stavatar.head.regions import LOCAL_REGIONS, RegionMasks
from stavatar.head.sampling import TexelPool, sample_uv
from stavatar.head.uv import UVAtlas

__all__ = [
    "LOCAL_REGIONS",
    "REGIONS",
    "FaceFrames",
    "HeadModel",
    "HeadParameters",
    "LandmarkEmbedding",
    "PosedHead",
    "RegionMasks",
    "TexelPool",
    "UVAtlas",
    "choose_head",
    "face_frames",
    "load_embedded_head",
    "load_embedded_landmarks",
    "load_flame",
    "load_head",
    "sample_uv",
]

"""Find where MediaPipe's 478 landmarks lie on the embedded head (how: ``stavatar.embedding``).

    python scripts/build_landmark_embedding.py [OUT.npz]

writes ``src/stavatar/head/data/embedded_landmarks.npz``: ``face`` [478] uint16 and ``barycentric`` [478, 3] float32.
"""

from __future__ import annotations

import sys
from pathlib import Path

from stavatar import assets
from stavatar.embedding import embed, mediapipe_detector, write_embedding
from stavatar.head import load_embedded_head

DATA = Path(__file__).resolve().parents[1] / "src" / "stavatar" / "head" / "data" / "embedded_landmarks.npz"


def main(out: Path = DATA) -> None:
    write_embedding(out, embed(load_embedded_head(), mediapipe_detector(assets.path("face_landmarker"))))
    print(f"wrote {out}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

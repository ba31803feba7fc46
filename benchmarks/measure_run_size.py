"""Bytes that a run leaves, by its parts, and those of what it was made from: what storage and network have to carry.

python benchmarks/measure_run_size.py RUN [--video VIDEO] -o sizes.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from stavatar.files import write_json
from stavatar.run import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--video", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    pictures = sorted((run.sequence / "images").iterdir())
    with Image.open(pictures[0]) as first:
        size = list(first.size)
    sizes = {
        "frames": len(pictures),
        "size": size,
        "video": arguments.video.stat().st_size if arguments.video else None,
        "parts": {path.name: bytes_of(path) for path in sorted(run.folder.iterdir())},
    }
    write_json(arguments.out, sizes)


def bytes_of(path: Path) -> int:
    return (
        path.stat().st_size
        if path.is_file()
        else sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    )


if __name__ == "__main__":
    main()

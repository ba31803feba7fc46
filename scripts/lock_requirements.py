"""Write requirements.lock: every package of an environment with its version and the SHA-256 of its archives.

    make lock        # or: python scripts/lock_requirements.py

Versions are those of constraints.txt, and the newest that fit for what is not in there. Hashes are those of all
archives of a version, so that the file holds for every platform and Python. Resolving and hashing are done by uv, which
this program calls; it needs the network.

torch and what it brings of CUDA stay out: which build of torch suits depends on the machine, and every build has other
hashes. It is pinned by version, in constraints.txt.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
CONSTRAINTS = ROOT / "constraints.txt"

HEADER = """\
# Made by `make lock`. Everything but torch, which is pinned by version in constraints.txt: see docs/safety.md.
"""
TOOLS = ("pip", "setuptools>=77")
"""What installs and builds, besides what pyproject.toml names."""

_TORCHS_OWN = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)==")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        tools, out = Path(folder) / "tools.in", Path(folder) / "out.txt"
        tools.write_text("\n".join(TOOLS) + "\n")
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version=3.11"]
        command += ["--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
        command += ["--extra=dev", "--extra=docs", f"--constraint={CONSTRAINTS}", f"--output-file={out}"]
        command += [str(ROOT / "pyproject.toml"), str(tools)]
        done = subprocess.run(command, check=False)
        if done.returncode != 0:
            print("nothing was written: is uv installed (`pip install uv`) and the network there?", file=sys.stderr)
            return 1
        LOCK.write_text(HEADER + without_torch(out.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def without_torch(lock: str) -> str:
    """A lock file's entries, without torch's: an entry is a line and those that continue it, indented."""
    entries = re.findall(r"^\S.*(?:\n[ \t].*)*\n", lock, re.MULTILINE)
    return "".join(entry for entry in entries if not _TORCHS_OWN.match(entry))


if __name__ == "__main__":
    sys.exit(main())

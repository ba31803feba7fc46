"""One run in a process of its own: ``python -m stavatar.ablation.worker RUN DEVICE``.

What stops it stands in the last line that it prints.
"""

from __future__ import annotations

import sys
from pathlib import Path

from stavatar import pipeline
from stavatar.ablation.runs import finish
from stavatar.errors import StavatarError
from stavatar.run import Run


def main(folder: str, device: str) -> int:
    """The process; returns its exit status."""
    try:
        finish(Run.open(Path(folder)), pipeline.choose_device(device))
    except StavatarError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

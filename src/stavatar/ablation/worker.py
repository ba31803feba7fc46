"""One run in a process of its own: ``python -m stavatar.ablation.worker RUN DEVICE``.

What stops it stands in the last line that it prints. It ends with the process that started it, and keeps a checkpoint
then: whoever resumes the ablation must not find runs that still go on.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from stavatar import interruption, pipeline
from stavatar.ablation.runs import finish
from stavatar.errors import StavatarError
from stavatar.run import Run

_STANDARD_INPUT = 0


def main(folder: str, device: str) -> int:
    """What the process does; returns its exit status."""
    try:
        finish(Run.open(Path(folder)), pipeline.choose_device(device))
    except StavatarError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as interrupted:
        print("interrupted", file=sys.stderr)
        return interruption.exit_code(interrupted)
    return 0


def _end_with_parent() -> None:
    """Wait for standard input to close: the other end is the starting process's, which writes nothing."""
    if not os.read(_STANDARD_INPUT, 1):  # sys.stdin would be locked when this process ends by itself
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    interruption.listen()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main(*sys.argv[1:]))

"""The viewer under browsers that come, look, and leave, for as long as you like: does it keep what it should let go?

    python benchmarks/viewer_load.py RUN [--browsers 32] [--minutes 60] [--pause 1] [-o result.json]

Starts `stavatar view RUN` and scripted browsers. Each turns the avatar, moves sliders, plays the motion, leaves after a
while and comes again. Memory, threads and file handles of the viewer are read before the first browser comes, every ten
seconds, and after the last has left. Exit code 1 if pictures failed to come, or if threads or handles stayed behind.
Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed

from scripted_browser import camera, messages, open_page_async, pack, setting
from stavatar.evaluation.results import versions
from stavatar.files import write_json

_STAY = (20.0, 90.0)  # seconds, from and to
_SAMPLE_SECONDS = 10.0
_PATIENCE = 60.0  # seconds for a picture to come
_SETTLE = 5.0  # seconds after the last browser left


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--browsers", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--pause", type=float, default=1.0, help="longest pause of a browser between two moves, s")
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()

    command = [sys.executable, "-m", "stavatar", "view", str(arguments.run), "--port", "0", "--no-browser"]
    viewer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        result = asyncio.run(load(viewer, arguments.browsers, 60 * arguments.minutes, arguments.pause))
    finally:
        viewer.terminate()
        viewer.wait(timeout=30)
    result["versions"] = versions("cpu")
    print(json.dumps({name: value for name, value in result.items() if name != "samples"}, indent=2))
    if arguments.out:
        write_json(arguments.out, result, indent=None)
    before, after = result["before"], result["after"]
    kept = any(after[name] > before[name] for name in ("threads", "handles"))
    return 1 if result["without_picture"] or kept or not result["alive"] else 0


async def load(viewer: subprocess.Popen[str], browsers: int, seconds: float, pause: float) -> dict[str, Any]:
    url = _address(viewer)
    await _Browser(url, random.Random(0), pause).look(2.0)  # what is made once, for the first browser, is made now
    await asyncio.sleep(_SETTLE)
    before = usage(viewer.pid)
    samples: list[dict[str, float]] = []
    crowd = [_Browser(url, random.Random(number), pause) for number in range(1, browsers + 1)]
    watching = asyncio.create_task(_watch(viewer.pid, samples))
    await asyncio.gather(*(browser.come_and_go(seconds) for browser in crowd))
    watching.cancel()
    await asyncio.sleep(_SETTLE)
    return {
        "browsers": browsers,
        "minutes": seconds / 60,
        "longest_pause_seconds": pause,
        "visits": sum(browser.visits for browser in crowd),
        "pictures": sum(browser.pictures for browser in crowd),
        "fewest_pictures_of_a_browser": min(browser.pictures for browser in crowd),
        "without_picture": sum(browser.disappointed for browser in crowd),
        "before": before,
        "most": {name: max(sample[name] for sample in samples) for name in before},
        "after": usage(viewer.pid),
        "alive": viewer.poll() is None,
        "samples": samples,
    }


class _Browser:
    """Somebody who comes, plays with the avatar, and leaves."""

    def __init__(self, url: str, dice: random.Random, pause: float) -> None:
        self._url, self._dice, self._pause = url, dice, pause
        self.visits = self.pictures = self.disappointed = 0

    async def come_and_go(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            await self.look(min(left, self._dice.uniform(*_STAY)))
            await asyncio.sleep(min(max(0.0, end - time.monotonic()), self._dice.uniform(0.0, 3.0)))

    async def look(self, seconds: float) -> None:
        self.visits += 1
        seen = self.pictures
        sliders: list[dict[str, Any]] = []
        async with open_page_async(self._url) as page:
            reading = asyncio.create_task(self._read(messages(page), sliders))
            end = time.monotonic() + seconds
            # A busy viewer may take longer for its first picture than this browser meant to stay.
            while time.monotonic() < end or (self.pictures == seen and time.monotonic() < end + _PATIENCE):
                with suppress(ConnectionClosed):
                    await page.send(pack(camera(self._dice.uniform(-60, 60))))
                    if sliders:
                        await page.send(pack(self._move(self._dice.choice(sliders))))
                await asyncio.sleep(self._dice.uniform(0.1, 1.0) * self._pause)
            reading.cancel()
        self.disappointed += self.pictures == seen

    async def _read(self, said: AsyncIterator[dict[str, Any]], sliders: list[dict[str, Any]]) -> None:
        async for message in said:
            if message["type"] == "BackgroundImageMessage" and message["rgb_data"]:
                self.pictures += 1
            if message["type"] == "GuiSliderMessage":
                sliders.append(message)

    def _move(self, slider: dict[str, Any]) -> dict[str, Any]:
        low, high = slider["props"]["min"], slider["props"]["max"]
        return setting(
            slider["uuid"], low if slider["props"]["label"] == "height, pixels" else self._dice.uniform(low, high)
        )


def _address(viewer: subprocess.Popen[str]) -> str:
    """Where the viewer says that it is. What it says later is read and dropped, so that it never has to wait."""
    assert viewer.stderr is not None
    for line in viewer.stderr:
        print(line, end="", file=sys.stderr)
        if found := re.search(r"viewer: (http\S+)", line):
            threading.Thread(target=viewer.stderr.read, daemon=True).start()
            return found[1]
    raise SystemExit("the viewer did not start")


async def _watch(process: int, samples: list[dict[str, float]]) -> None:
    begin = time.monotonic()
    while True:
        samples.append({"seconds": round(time.monotonic() - begin, 1), **usage(process)})
        await asyncio.sleep(_SAMPLE_SECONDS)


def usage(process: int) -> dict[str, float]:
    """Resident memory in MB, threads, and file handles of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    numbers = {name: int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)[1]) for name in ("VmRSS", "Threads")}
    handles = len(list(Path(f"/proc/{process}/fd").iterdir()))
    return {"megabytes": round(numbers["VmRSS"] / 1024, 1), "threads": numbers["Threads"], "handles": handles}


if __name__ == "__main__":
    sys.exit(main())

"""The site as one HTML file, which also plays where it is opened as a file.

Its scripts are the site's, put one after the other with their imports taken out; so each must keep imports on lines of
their own, and no two may declare the same name at their top (``test_page.py`` sees to both).
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

from stavatar.avatar.avatar import Avatar
from stavatar.avatar.storage import Motion
from stavatar.export.web.package import TENSORS
from stavatar.export.web.site import Truth, write_site
from stavatar.files import temporary_folder, write_text
from stavatar.locks import sole_writer

WORKER = ("avatar.js", "pose.js", "splats.js", "worker.js")
MAIN = ("pose.js", "splats.js", "renderer.js", "orbit.js", "controls.js", "main.js")
"""Modules of each thread, each after those that it imports."""


def export_page(
    path: Path,
    avatar: Avatar,
    motion: Motion,
    *,
    rank: int = 12,
    frames: int | None = None,
    truth: Truth | None = None,
) -> dict[str, Any]:
    """Write what :func:`export_site` writes as a single page; arguments and result are the same.

    Raises:
        InputError: the file cannot be written.
    """
    path = Path(path)
    with sole_writer(path):
        site = temporary_folder(path)
        try:
            meta = write_site(site, avatar, motion, rank=rank, frames=frames, truth=truth)
            meta["measured"]["megabytes"] = round(len(_assemble(site, meta)) / 1e6, 3)
            write_text(path, _assemble(site, meta))
        finally:
            shutil.rmtree(site, ignore_errors=True)
    return meta


def _assemble(site: Path, meta: dict[str, Any]) -> str:
    """The page, from the files of a site."""
    page, style = ((site / name).read_text(encoding="utf-8") for name in ("index.html", "style.css"))
    data = {
        "meta": ("application/json", json.dumps(meta, allow_nan=False).replace("</", "<\\/")),
        "avatar": ("text/plain", base64.b64encode((site / TENSORS).read_bytes()).decode("ascii")),
        "worker": ("text/plain", bundle(site, WORKER)),
    }
    embedded = [f'<script type="{kind}" id="embedded-{name}">{text}</script>' for name, (kind, text) in data.items()]
    replacements = {
        '<link rel="stylesheet" href="style.css">': f"<style>\n{style}</style>",
        "<!-- embedded data -->": "\n".join(embedded),
        '<script type="module" src="main.js"></script>': f'<script type="module">\n{bundle(site, MAIN)}</script>',
    }
    for place, content in replacements.items():
        before, _, after = page.partition(place)
        page = before + content + after
    return page


def bundle(folder: Path, modules: tuple[str, ...]) -> str:
    """Modules as one script."""
    scripts = [(folder / name).read_text(encoding="utf-8") for name in modules]
    return re.sub(r"^import .*;\n|^export ", "", "\n".join(scripts), flags=re.MULTILINE)

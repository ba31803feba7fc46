"""The docs: what they promise about Python runs, and the site builds without a complaint."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def first_block(page):
    return re.search(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[1]


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_ten_lines_run(page, small_avatar_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").symlink_to(small_avatar_folder)
    exec(compile(first_block(ROOT / page), page, "exec"), {})
    assert (tmp_path / "smile.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_site_builds_and_needs_no_other_host(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    pytest.importorskip("mkdocstrings", reason="the extra `docs` is not installed")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    commands = (tmp_path / "site" / "cli.html").read_text()
    for command in ("reconstruct", "drive", "view"):
        assert f'id="stavatar-{command}"' in commands
    assert "--head-motion" in commands
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        text = page.read_text()
        assert "made by:" not in text, page
        assert not re.search(r'<(script|img|iframe)[^>]+src="?https?://', text), page
        assert not re.search(r'<link[^>]+rel="?stylesheet"?[^>]+href="?https?://', text), page


def test_every_page_can_be_reached():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if f" {page}\n" not in menu] == []

"""The page of a run: complete, self-contained, harmless, and whole without what a run does not have."""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_fixtures import FRAMES, HOSTILE, PSNR, grey_level

from stavatar.errors import InputError
from stavatar.report import media
from stavatar.report.page import write_report
from stavatar.run import Run

VOID = {"meta", "img", "br", "hr", "link", "input", "source"}


class Page(HTMLParser):
    """Checks that tags are nested properly and collects elements, texts, and everything that could be loaded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        assert len(dict(attributes)) == len(attributes), f"<{tag}> repeats an attribute"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, text: str) -> None:
        self.texts.append(text)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


def decoded(uri: str | None) -> Image.Image:
    kind, content = (uri or "").split(";base64,")
    assert kind == "data:image/webp"
    return Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB")


def test_the_page_shows_everything_that_the_run_has(whole_run: Path) -> None:
    shown = read(whole_run)
    for section in ("figures", "curves", "pictures", "training", "tracking", "made"):
        assert any(attributes.get("id") == section for attributes in shown.all("section")), section
    for text in ("29.67", "21.00", "27.10", "12 of 32 usable frames", "pictures of 32 x 32", "Clusters of frames"):
        assert text in shown.text, text
    assert "Gaussians over the surface" not in shown.text, "there is no such picture"
    assert len(shown.all("video")) == 2
    assert shown.all("html")[0]["lang"] == "en"


def test_nothing_is_loaded_from_anywhere_and_no_script_runs(whole_run: Path) -> None:
    shown = read(whole_run)
    for tag, attributes in shown.elements:
        assert tag not in ("script", "link", "iframe", "object", "base", "form"), tag
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} has {name}"
            if name in ("src", "href", "poster", "srcset", "data"):
                assert str(value).startswith(("data:", "#")), f"{tag} loads {str(value)[:60]}"
    text = (whole_run / "report.html").read_text(encoding="utf-8")
    for outside in ("http://", "https://", "url(", "@import"):
        assert outside not in text, outside


def test_texts_of_files_are_shown_as_they_are(whole_run: Path) -> None:
    """They must reach the reader, and not the browser as markup nor the template engine as code."""
    shown = read(whole_run)
    assert HOSTILE in shown.texts, "the name is the heading"
    assert shown.text.count("alert") >= 4
    assert "49" not in shown.text.replace("29.49", "")
    assert "<script" not in (whole_run / "report.html").read_text(encoding="utf-8")


def test_worst_and_best_frames_are_those_of_the_figures(whole_run: Path) -> None:
    shown = read(whole_run)
    strips = [image for image in shown.all("img") if str(image["alt"]).startswith("Input, render and error")]
    expected = [*sorted(PSNR)[:3], *sorted(PSNR, reverse=True)[:3]]
    assert len(strips) == 6
    for strip, psnr in zip(strips, expected, strict=True):
        position = PSNR.index(psnr)
        assert f"frame {FRAMES[position]}: {psnr:.2f} dB" in str(strip["alt"])
        assert np.asarray(decoded(strip["src"])).mean() == pytest.approx(grey_level(position), abs=6)


def test_curves_mark_the_worst_and_the_best_frame(whole_run: Path) -> None:
    shown = read(whole_run)
    assert len(shown.all("svg")) == 3, "PSNR, SSIM and flicker; LPIPS was measured on no frame"
    assert f"worst: frame {FRAMES[5]}, 22" in shown.text and f"best: frame {FRAMES[3]}, 35" in shown.text
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in shown.all("svg"))
    assert all(image["alt"] for image in shown.all("img"))


def test_settings_other_than_the_presets_are_marked(whole_run: Path) -> None:
    text = (write_report(whole_run)).read_text(encoding="utf-8")
    changed = [row for row in text.split("<tr")[1:] if row.startswith(' class="changed"')]
    assert len(changed) == 1 and "steps" in changed[0] and "123" in changed[0]


def test_a_bare_run_has_a_page_too(write_run, tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "bare",
        metrics_missing={},
        reenactment={"self": None, "cross": None},
        per_frame={"frame": [3], "psnr": [30.0]},
        stage_seconds={},
    )
    shown = read(folder)
    for section in ("curves", "pictures", "training", "tracking"):
        assert not any(attributes.get("id") == section for attributes in shown.all("section")), section
    assert "Re-enactment" not in shown.text and "Missing" not in shown.text
    targets = {attributes.get("id") for _, attributes in shown.elements}
    assert all(str(link["href"])[1:] in targets for link in shown.all("a")), "no link leads nowhere"


def test_large_videos_and_pictures_do_not_make_the_page_large(whole_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.effect_noise((3000, 300), 80).convert("RGB").save(whole_run / "contact_sheet.png")
    monkeypatch.setattr(media, "MOST_VIDEO_BYTES", 100)
    shown = read(whole_run)
    assert not shown.all("video")
    assert "side_by_side.mp4 in the run's folder" in shown.text and "tracking.mp4 in the run's folder" in shown.text
    sheet = next(image for image in shown.all("img") if "Contact sheet" in str(image["alt"]))
    assert (sheet["width"], sheet["height"]) == ("1600", "160") and decoded(sheet["src"]).size == (1600, 160)
    assert len([image for image in shown.all("img") if image["alt"] == "Tracked mesh over a frame"]) == 4


def test_the_page_can_be_written_elsewhere(write_run, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    assert write_report(folder, tmp_path / "out" / "me.html") == tmp_path / "out" / "me.html"
    assert (tmp_path / "out" / "me.html").exists() and not Run(folder).report.exists()


def test_what_cannot_be_shown_is_named(write_run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a stavatar run"):
        write_report(tmp_path)
    folder = write_run(tmp_path / "run")
    run = Run(folder)
    for broken in (run.contact_sheet, run.side_by_side):
        broken.write_bytes(b"neither a picture nor a video")
        with pytest.raises(InputError, match=broken.name):
            write_report(folder)
        broken.unlink()
    run.results.unlink()
    with pytest.raises(InputError, match="has no results yet: measure it with `stavatar evaluate"):
        write_report(folder)


@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_shows_it(whole_run: Path, tmp_path: Path, width: int) -> None:
    """Laid out by Chromium: the page has its title, nothing sticks out sideways, and nothing was refused."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    report = write_report(whole_run)
    # A script of ours, in a copy without the policy that forbids scripts, reads the layout off.
    probe = (
        "<script>onload=()=>{const e=document.documentElement;document.title=JSON.stringify({"
        "wide:e.scrollWidth-e.clientWidth,broken:[...document.images].filter(i=>!i.naturalWidth).length,"
        "images:document.images.length,curve:document.querySelector('.curve').getBBox().width>100})}</script>"
    )
    text = report.read_text(encoding="utf-8")
    start = text.index('<meta http-equiv="Content-Security-Policy"')
    probed = tmp_path / "probed.html"
    probed.write_text(text[:start] + probe + text[text.index(">", start) + 1 :], encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    command = [browser, *flags.split(), "--disable-component-update", "--disable-sync", "--virtual-time-budget=3000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},1200", "--dump-dom", probed.as_uri()]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert '<title>{"wide":0,"broken":0,"images":13,"curve":true}</title>' in answer.stdout

"""Tables over runs: labels, groups, best figures, means, and protocols that do not mix."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from report_fixtures import HOSTILE

from stavatar import cli
from stavatar.errors import InputError
from stavatar.report.compare import Comparison, Line, Source, compare, compare_sources
from stavatar.report.tables import FORMATS, render


@pytest.fixture
def runs(write_run, tmp_path: Path):
    """Write runs of (subject, method, PSNR) with other fields changed; returns their folders."""

    def write(*entries: tuple, **changes) -> list[str]:
        return [
            str(write_run(tmp_path / subject / method, name=subject, metrics__psnr=psnr, **changes))
            for subject, method, psnr in entries
        ]

    return write


def psnr(line: Line) -> float | None:
    return line.cells[0].value


def find(comparison: Comparison, group: str, label: str) -> Line:
    (line,) = [line for line in comparison.lines if (line.group, line.label) == (group, label)]
    return line


BOTH = (("anna", "soft", 30.0), ("anna", "hard", 28.0), ("bob", "soft", 25.0), ("bob", "hard", 26.0))


def test_rows_are_grouped_by_subject_and_the_best_is_marked(runs) -> None:
    comparison = compare(runs(*BOTH))
    assert [(line.group, line.label, psnr(line)) for line in comparison.lines] == [
        *BOTH,
        ("mean over 2 subjects", "soft", 27.5),
        ("mean over 2 subjects", "hard", 27.0),
    ]
    assert [line.cells[0].best for line in comparison.lines] == [True, False, False, True, True, False]
    assert not any(line.mark for line in comparison.lines), "one protocol needs no marks"
    assert "Subjects of the mean over 2 subjects: anna, bob." in comparison.notes


def test_lower_is_better_where_it_is(runs, write_run, tmp_path: Path) -> None:
    calm = write_run(tmp_path / "anna" / "calm", name="anna", metrics__flicker=0.001)
    comparison = compare([*runs(("anna", "soft", 30.0)), str(calm)])
    flicker = [column.label for column in comparison.columns].index("Flicker")
    assert find(comparison, "anna", "calm").cells[flicker].best
    assert not find(comparison, "anna", "soft").cells[flicker].best


def test_columns_that_no_run_has_are_left_out(runs) -> None:
    labels = [column.label for column in compare(runs(("anna", "soft", 30.0))).columns]
    assert "LPIPS alex" not in labels, "it was not measured"
    assert {"PSNR", "PSNR mouth", "PSNR as tracked", "FPS", "Training s"} <= set(labels)


@pytest.mark.parametrize(
    "change",
    [
        {"protocol__name": "splattingavatar"},
        {"protocol__size": [512, 512]},
        {"protocol__deviations": []},
        {"protocol__mask": "head"},
        {"protocol__background": "black"},
        {"protocol__frame_step": 2},
        {"tracker": "another"},
        {"test_tracking": "landmarks alone"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_runs_not_measured_alike_are_marked_and_do_not_compete(runs, write_run, tmp_path: Path, change: dict) -> None:
    other = write_run(tmp_path / "other" / "best", name="anna", metrics__psnr=40.0, **change)
    comparison = compare([*runs(*BOTH), str(other)])
    marks = {line.mark for line in comparison.lines if line.label != "best"}
    line = find(comparison, "anna", "best")
    assert marks == {"a"} and line.mark == "b" and not line.cells[0].best
    assert find(comparison, "anna", "soft").cells[0].best, "best of those measured alike"
    assert any("were not measured alike" in note for note in comparison.notes)
    assert psnr(find(comparison, "mean over 2 subjects", "soft")) == 27.5


def test_custom_splits_are_alike_when_the_same_share_is_held_out(runs, write_run, tmp_path: Path) -> None:
    changes = {"protocol__name": "custom", "protocol__holdout": 20, "protocol__train_frames": 80}
    first = runs(*BOTH[:2], **changes)
    longer = write_run(tmp_path / "c" / "soft", name="cara", **(changes | {"protocol__holdout": 142,
                                                                          "protocol__train_frames": 570}))  # fmt: skip
    half = write_run(tmp_path / "c" / "hard", name="cara", **(changes | {"protocol__holdout": 80}))
    comparison = compare([*first, str(longer), str(half)])
    assert find(comparison, "cara", "soft").mark == "a" and find(comparison, "cara", "hard").mark == "b"
    assert any(note.startswith("a: custom, the last 20% held out") for note in comparison.notes)


def test_means_are_over_subjects_that_all_methods_have(runs, write_run, tmp_path: Path) -> None:
    third = write_run(tmp_path / "cara" / "soft", name="cara", metrics__psnr=90.0)
    comparison = compare([*runs(*BOTH), str(third)])
    assert psnr(find(comparison, "mean over 2 subjects", "soft")) == 27.5, "without cara, whom hard lacks"
    missing = write_run(tmp_path / "cara" / "hard", name="cara", metrics__psnr=None)
    comparison = compare([*runs_of(tmp_path, BOTH), str(third), str(missing)])
    assert psnr(find(comparison, "mean over 3 subjects", "hard")) is None, "no mean over fewer than it says"


def runs_of(folder: Path, entries: tuple) -> list[str]:
    return [str(folder / subject / method) for subject, method, _ in entries]


def test_one_subject_has_no_mean(runs) -> None:
    assert {line.group for line in compare(runs(*BOTH[:2])).lines} == {"anna"}


def test_labels_are_as_short_as_tells_runs_apart(write_run, tmp_path: Path) -> None:
    folders = [str(write_run(tmp_path / row / "seed0", name="anna")) for row in ("full", "hard")]
    assert [line.label for line in compare(folders).lines] == ["full/seed0", "hard/seed0"]
    assert [line.label for line in compare([f"ours={folders[0]}", folders[1]]).lines] == ["ours", "seed0"]
    with pytest.raises(InputError, match="two runs of anna are called x"):
        compare([f"x={folder}" for folder in folders])
    with pytest.raises(InputError, match="two runs of anna"):
        compare([folders[0], folders[0]])


def test_one_run_of_each_subject_is_one_method(runs) -> None:
    comparison = compare(runs(("anna", "out_anna", 30.0), ("bob", "out_bob", 20.0)))
    assert [line.label for line in comparison.lines] == ["cpu", "cpu", "cpu"]
    assert psnr(comparison.lines[-1]) == 25.0


def test_speeds_of_different_machines_do_not_compete(runs, write_run, tmp_path: Path) -> None:
    faster = write_run(tmp_path / "gpu", name="anna", speed__single_fps=900.0, versions__device="H100")
    comparison = compare([*runs(*BOTH[:2]), str(faster)])
    fps = [column.label for column in comparison.columns].index("FPS")
    assert not any(line.cells[fps].best for line in comparison.lines)
    assert any(
        note.startswith("Speeds and times are those of different machines: H100; cpu") for note in comparison.notes
    )
    assert not any(line.mark for line in comparison.lines), "everything else may be compared"


def test_lpips_over_some_of_the_frames_does_not_compete(runs, write_run, tmp_path: Path) -> None:
    first = runs(*BOTH[:2], metrics__lpips_alex=0.05, metrics__lpips_frames="12 of 12")
    part = write_run(tmp_path / "part", name="anna", metrics__lpips_alex=0.01, metrics__lpips_frames="3 of 12")
    comparison = compare([*first, str(part)])
    lpips = [column.label for column in comparison.columns].index("LPIPS alex")
    assert not any(line.cells[lpips].best for line in comparison.lines)
    assert find(comparison, "anna", "soft").cells[0].best, "PSNR is over all frames in any case"
    assert "LPIPS is in part the mean over some of the frames: 3 of 12." in comparison.notes


def test_a_result_file_may_be_given_itself(runs) -> None:
    (folder,) = runs(("anna", "soft", 30.0))
    assert compare([f"{folder}/results.json"]).lines == compare([f"cpu={folder}"]).lines


def test_markdown_is_a_table_whatever_the_names(write_run, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a_b|c", name=HOSTILE + "\n| second | row |")
    lines = render(compare([f"a_b|c={folder}"]), ".md").splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 3
    columns = {line.replace("\\|", "").count("|") for line in table}
    assert len(columns) == 1
    assert "<script" not in "\n".join(lines).replace("\\<", "")


def test_latex_escapes_what_means_something_there(write_run, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "x", name=r"100% \input{/etc/passwd} & a_b #1 ^~$")
    text = render(compare([f"a_b={folder}"]), ".tex")
    assert r"100\% \textbackslash{}input\{/etc/passwd\} \& a\_b \#1 \textasciicircum{}\textasciitilde{}\$" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len({row.replace(r"\&", "").count("&") for row in rows}) == 1
    assert text.count("{") == text.count("}")


def test_best_figures_are_bold_in_every_format(runs) -> None:
    comparison = compare(runs(*BOTH))
    assert "**30.00**" in render(comparison, ".md") and "| 28.00 |" in render(comparison, ".md")
    assert r"\textbf{30.00}" in render(comparison, ".tex")
    assert "<strong>30.00</strong>" in render(comparison, ".html")
    read = json.loads(render(comparison, ".json"))
    assert read["lines"][0]["cells"][0] == {"value": 30.0, "best": True}


def test_the_html_table_escapes_names(write_run, tmp_path: Path) -> None:
    text = render(compare([f"{HOSTILE}={write_run(tmp_path / 'x')}"]), ".html")
    assert "<script" not in text and "&lt;script" in text and "{{ 7 * 7 }}" in text


def test_other_formats_are_refused_with_those_that_are_known(runs) -> None:
    with pytest.raises(InputError, match=r"written as \*\.xlsx: use one of .md, .tex, .html, .json"):
        render(compare(runs(("anna", "soft", 30.0))), ".xlsx")
    assert set(FORMATS) == {".md", ".tex", ".html", ".json"}


@pytest.mark.parametrize("name", ["table.md", "table.tex", "table.html", "table.json"])
def test_the_command_writes_what_the_suffix_says(runs, tmp_path: Path, monkeypatch, capsys, name: str) -> None:
    monkeypatch.setattr(sys, "argv", ["stavatar", "compare", *runs(*BOTH), "-o", str(tmp_path / name)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code and str(tmp_path / name) in capsys.readouterr().out
    assert "30" in (tmp_path / name).read_text(encoding="utf-8")


def test_the_command_prints_markdown_that_can_be_piped(runs, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "argv", ["stavatar", "compare", *runs(*BOTH)])
    with pytest.raises(SystemExit):
        cli.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| subject | run | PSNR") and lines[0].endswith("|"), "in one piece"


def test_a_program_may_say_whom_results_show(write_run, tmp_path: Path) -> None:
    """Many videos are called the same, and stand under the names that a batch gives them."""
    paths = [write_run(tmp_path / name, name="video", metrics__psnr=psnr) for name, psnr in (("a", 30.0), ("b", 20.0))]
    sources = [Source(path, "cpu", subject) for path, subject in zip(paths, ("anna", "bob"), strict=True)]
    comparison = compare_sources(sources)
    assert [(line.group, line.label, psnr(line)) for line in comparison.lines] == [
        ("anna", "cpu", 30.0),
        ("bob", "cpu", 20.0),
        ("mean over 2 subjects", "cpu", 25.0),
    ]
    page = render(comparison, ".html")
    assert '<th scope="row">anna<small>cpu</small></th>' in page
    assert 'class="group"' not in page.partition("</style>")[2], "a line of its own for each subject says nothing more"

"""The arithmetic of the table, against numbers worked out by hand."""

import pytest

from stavatar.ablation.rows import FULL, PAPER
from stavatar.ablation.table import (
    MEASURES,
    Summary,
    differences,
    read_measures,
    summaries,
    summarise,
    write_table,
    written,
)


def run(**values):
    """What was measured in one run; everything not named is missing."""
    return dict.fromkeys(MEASURES) | values


def test_mean_and_sample_deviation():
    assert summarise([1.0, 2.0, 6.0]) == Summary(3.0, pytest.approx(7**0.5), 3)  # (4 + 1 + 9) / 2 = 7
    assert summarise([5.0]) == Summary(5.0, None, 1)
    assert summarise([]) is None


def test_values_are_found_where_results_have_them():
    results = {
        "metrics": {"psnr": 30.5, "ssim": 0.95, "lpips_alex": None},
        "metrics_regions": {"mouth": {"psnr": 25.0, "l1": 0.03}, "eyes": None},
        "gaussians": 9928,
        "gaussians_mouth": 2012,
        "stage_seconds": {"training": 81.5},
    }
    found = read_measures(results)
    given = {"psnr": 30.5, "ssim": 0.95, "mouth_psnr": 25.0, "mouth_l1": 0.03, "seconds": 81.5}
    assert found == run(**given, gaussians=9928, gaussians_mouth=2012)
    assert read_measures({}) == run()


def test_seeds_without_a_value_do_not_count():
    found = summaries({0: run(psnr=30.0, ssim=0.9), 1: run(psnr=32.0)})
    assert found["psnr"] == Summary(31.0, pytest.approx(2**0.5), 2)
    assert found["ssim"] == Summary(0.9, None, 1)
    assert found["l1" if "l1" in MEASURES else "eyes_l1"] is None


def test_differences_are_paired_by_seed():
    """Seeds spread by 4 dB, the differences by nothing; and a seed that only one of the two has is left out."""
    full = {0: run(psnr=30.0), 1: run(psnr=34.0), 2: run(psnr=10.0)}
    other = {0: run(psnr=29.0), 1: run(psnr=33.0), 3: run(psnr=99.0)}
    assert differences(other, full)["psnr"] == Summary(-1.0, 0.0, 2)
    assert differences(other, {})["psnr"] is None


def test_how_figures_are_written():
    assert written(Summary(30.126, 0.034, 3), 2) == "30.13 ± 0.03"
    assert written(Summary(1.5, None, 1), 2, signed=True) == "+1.50"
    assert written(Summary(-2012.0, 3.0, 2), 0, signed=True) == "-2,012 ± 3"
    assert written(None, 2) == "missing"


def test_the_page_shows_rows_differences_and_failures():
    measured = {"full": {0: run(psnr=30.0), 1: run(psnr=31.0)}, "no_adc": {0: run(psnr=28.5)}}
    rows = [FULL, *(row for row in PAPER if row.name in ("no_adc", "no_ftc"))]
    page = write_table(rows, measured, {"no_ftc, seed 0": "memory was short"}, {"preset": "cpu"})
    lines = page.splitlines()
    assert "- preset: cpu" in lines
    whole, difference = page.index("## Whole pictures"), page.index("## Difference to")
    cells = [line.split(" | ") for line in page[whole:difference].splitlines() if line.startswith("| `")]
    assert cells[0][:3] == ["| `full`", "2", "30.50 ± 0.71"]
    assert cells[1][:3] == ["| `no_adc`", "1", "28.50"]
    assert cells[2][:3] == ["| `no_ftc`", "0", "missing"]
    compared = [line.split(" | ") for line in page[difference:].splitlines() if line.startswith("| `")]
    assert [line[:3] for line in compared] == [["| `no_adc`", "1", "-1.50"], ["| `no_ftc`", "0", "missing"]]
    assert "- no_ftc, seed 0: memory was short" in lines
    assert any(line.startswith("- `no_adc`: ") and "`density.control=none`" in line for line in lines)
    widths = {line.count("|") for line in page[whole : page.index("## Regions")].splitlines() if line.startswith("|")}
    assert len(widths) == 1  # a table that a reader of Markdown takes for one

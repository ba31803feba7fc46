"""The whole of an ablation: runs, table, pictures."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from stavatar import config, pipeline
from stavatar.ablation.crops import Look, draw_mouths_and_eyes
from stavatar.ablation.rows import FULL, Row
from stavatar.ablation.runs import Trial, carry_out, plan_trials
from stavatar.ablation.table import Measured, Summary, differences, read_measures, summaries, write_table
from stavatar.avatar.storage import TENSORS, load_avatar
from stavatar.config import Config
from stavatar.evaluation.drawing.canvas import save_png
from stavatar.evaluation.drawing.curves import draw_curves
from stavatar.evaluation.openness import INSIDE_MOUTH
from stavatar.files import read_json, write_json, write_text
from stavatar.head import HeadModel, load_head
from stavatar.run import Run, claimed
from stavatar.run_pictures import (
    CLUSTERS,
    CURVES,
    DENSITY,
    OFFSETS,
    draw_densities,
    draw_offsets,
    draw_run_clusters,
    read_curve,
)
from stavatar.sequence import Sequence, read_sequence

TABLE, NUMBERS = "ablation.md", "ablation.json"
MOUTHS, EYES = "crops_mouth.png", "crops_eyes.png"


def ablate(
    data: Path,
    folder: Path,
    base: Config,
    rows: list[Row],
    seeds: list[int],
    *,
    device: torch.device,
    jobs: int = 1,
    resume: bool = False,
) -> dict[str, str]:
    """Train and measure every row with every seed, then write the table and the pictures.

    ``folder`` holds the sequence once, a run for each row and seed in ``<row>/seed<k>``, and the outcome. What changes
    nothing of the base (it has that setting already) is left out, with a remark in the table.

    Args:
        data: a tracked sequence, or a run that holds one.
        folder: for the results: new, or an ablation to resume.
        base: settings that all rows start from.
        rows: the first is :data:`FULL`.
        seeds: of the runs, each once.
        device: where to train.
        jobs: runs at a time.
        resume: keep finished runs, and continue others where they stopped.

    Returns:
        Why those runs failed that did; the table says so too, and holds the others.

    Raises:
        InputError: the data, the folder, or a row's settings cannot be used; nothing is trained then.
    """
    idle = {row.name for row in rows if row != FULL and config.override(base, list(row.settings)) == base}
    rows = [row for row in rows if row.name not in idle]
    trials = plan_trials(folder, base, rows, seeds)
    source = Run.open(data).sequence if (data / "config.yaml").is_file() else data
    with claimed(folder):
        whole = pipeline.take_sequence(source, folder, base, device=device, resume=resume)
        failures = carry_out(trials, whole, device, jobs)
        sequence = read_sequence(whole.sequence)
        facts = {
            "sequence": sequence.name,
            "preset": base.preset,
            "seeds": ", ".join(map(str, seeds)),
            "device": device.type + (f", {jobs} runs at a time, which the seconds include" if jobs > 1 else ""),
        }
        if idle:
            facts["left out, as they change nothing of these settings"] = ", ".join(sorted(idle))
        finished = [trial for trial in trials if trial.finished and trial.name not in failures]
        _write_numbers(folder, rows, finished, failures, facts, load_head(sequence.head_model))
        if finished:
            _draw(folder, finished, sequence, device)
    return failures


def _write_numbers(
    folder: Path,
    rows: list[Row],
    finished: list[Trial],
    failures: dict[str, str],
    facts: dict[str, str],
    head: HeadModel,
) -> None:
    """``ablation.md`` and ``ablation.json``."""
    inside_mouth = head.faces_in(*INSIDE_MOUTH)
    measured: dict[str, dict[int, Measured]] = {}
    for trial in finished:
        run = Run(trial.folder)
        with safe_open(run.avatar / TENSORS, framework="pt") as file:
            inside = int(inside_mouth[file.get_tensor("gaussians.face")].sum())
        results = read_json(run.results) | {"gaussians_mouth": inside}
        measured.setdefault(trial.row.name, {})[trial.seed] = read_measures(results)
    baseline = measured.get(FULL.name, {})
    write_text(folder / TABLE, write_table(rows, measured, failures, facts))
    numbers: dict[str, Any] = {"facts": facts, "rows": {}, "failed": failures}
    for row in rows:
        runs = measured.get(row.name, {})
        numbers["rows"][row.name] = {
            "group": row.group,
            "meaning": row.meaning,
            "settings": row.settings,
            "runs": runs,
            "mean_and_std": _plain(summaries(runs)),
            "difference_to_full": _plain(differences(runs, baseline)),
        }
    write_json(folder / NUMBERS, numbers)


def _plain(found: dict[str, Summary | None]) -> dict[str, dict[str, float | None] | None]:
    return {name: None if summary is None else asdict(summary) for name, summary in found.items()}


def _draw(folder: Path, finished: list[Trial], sequence: Sequence, device: torch.device) -> None:
    """The pictures: of the first seed of each row, but curves of all seeds."""
    curves = [read_curve(Run(trial.folder), trial.row.name) for trial in finished]
    save_png(draw_curves(curves, title=f"{sequence.name}: mean over seeds", emphasised=FULL.name), folder / CURVES)
    draw_run_clusters(Run(finished[0].folder), sequence, folder / CLUSTERS)

    firsts: dict[str, Trial] = {}
    for trial in finished:
        firsts.setdefault(trial.row.name, trial)
    looks: dict[str, Look] = {name: load_avatar(Run(trial.folder).avatar, device) for name, trial in firsts.items()}
    draw_densities({name: avatar for name, (avatar, _) in looks.items()}, folder / DENSITY)
    soft = {name: look for name, look in looks.items() if look[0].network is not None}
    if soft:
        draw_offsets(soft, sequence, folder / OFFSETS)
    draw_mouths_and_eyes(looks, sequence, folder / MOUTHS, folder / EYES)

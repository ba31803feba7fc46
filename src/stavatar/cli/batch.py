"""The command for many subjects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stavatar.cli.app import app, output, say
from stavatar.cli.options import Device
from stavatar.errors import InputError, TrainingError


@app.command()
def batch(
    manifest: Annotated[
        Path, typer.Argument(readable=False, help="A CSV file: a row for each job; columns are explained below.")
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH|URL",
            help="Folder, or s3://, gs://, ... for what comes out; new, or a batch to --resume.",
        ),
    ],
    engine: Annotated[str, typer.Option(help="local: processes of this machine. ray: a Ray cluster.")] = "local",
    workers: Annotated[
        int | None, typer.Option(help="local: jobs at a time; by default one for each GPU, or one.", min=1)
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="ray: the cluster, as ray://HOST:10001, HOST:6379, or auto on one of its machines; by default one is "
            "started here.",
        ),
    ] = None,
    cpus_per_task: Annotated[
        float | None,
        typer.Option(help="ray: CPU cores that a job sets aside, unless its row says so.", show_default="1"),
    ] = None,
    gpus_per_task: Annotated[
        float | None,
        typer.Option(
            help="ray: GPUs that a job sets aside, unless its row says so; with 0.25, four share one.",
            show_default="1 where the cluster has any",
        ),
    ] = None,
    device: Device = "auto",
    retries: Annotated[int, typer.Option(help="How often a job is tried again whose process was lost.", min=0)] = 2,
    work: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Folder on each machine for what comes from or goes to a URL; in the cache by default.",
        ),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(metavar="K/N", help="Only the K-th of N parts of the rows, for array jobs; no summary."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep finished jobs, go on with half-finished ones, try failed ones again.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Check the manifest, and start nothing.")] = False,
    summary: Annotated[
        bool, typer.Option("--summary", help="Write the summary of what is there, and start nothing.")
    ] = False,
) -> None:
    """Many subjects: reconstruct, train, evaluate or ablate one in each row of a manifest.

    Columns: name, task (reconstruct, train, evaluate, ablate) and input are
    required; out, subject, method, preset, set, head, holdout, protocol, seed,
    rows, cpus and gpus may be left out. docs/many_subjects.md explains them.

    The whole manifest is checked first. A job that fails is named with its
    reason and stops no other; one whose process was lost (killed, out of
    memory, machine gone) is tried again where it stood. With --resume a job
    that is finished is never done twice.

    OUT/NAME is an ordinary run, OUT/NAME.log what it printed. OUT/batch.html,
    batch.md and batch.json sum up: figures with means over subjects, failures,
    times, pictures.

    Examples: [bold]stavatar batch manifest.csv -o out/ --workers 2[/],
    [bold]stavatar batch manifest.csv -o s3://bucket/out --engine ray --address auto --gpus-per-task 0.25[/]
    """
    from stavatar import batch as batches
    from stavatar.batch.status import final_table

    settings = batches.Settings(
        engine=engine,
        workers=workers,
        address=address,
        cpus=cpus_per_task,
        gpus=gpus_per_task,
        device=device,
        retries=retries,
        work=work,
        resume=resume,
        part=None if part is None else _part(part),
    )
    if check:
        jobs = batches.plan(manifest, out, settings)
        say(f"{manifest}: {len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}, no faults")
        return
    if summary:
        jobs, outcomes = batches.summarise(manifest, out)
    else:
        jobs, outcomes = batches.run_batch(manifest, out, settings)
    output.print(final_table(jobs, outcomes))
    if part is None:
        say(f"summary:  {out}: batch.html, batch.md, batch.json")
    failed = [job.name for job in jobs if outcomes[job.name].state in ("failed", "lost")]
    if failed:
        raise TrainingError(
            f"{len(failed)} of {len(jobs)} jobs failed: {', '.join(failed)}; the same command with --resume tries them "
            "again"
        )


def _part(text: str) -> tuple[int, int]:
    first, separator, count = text.partition("/")
    if not separator or not first.isdecimal() or not count.isdecimal():
        raise InputError(f"--part {text}: expected K/N, such as 3/10")
    return int(first), int(count)

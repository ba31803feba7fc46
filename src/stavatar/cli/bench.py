"""The command that measures speed and memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from stavatar.cli.app import app, output, say
from stavatar.cli.options import Device, Preset, Settings, configure
from stavatar.errors import InputError


@app.command()
def bench(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="JSON file for the result.")] = None,
    preset: Preset = "auto",
    settings: Settings = None,
    gaussians: Annotated[
        int | None, typer.Option(help="How many; by default as many as a training of the preset starts with.", min=1)
    ] = None,
    size: Annotated[int | None, typer.Option(help="Edge of the pictures, pixels.", min=32, max=4096)] = None,
    uv: Annotated[int | None, typer.Option(help="Edge of the UV maps, texels.", min=16, max=2048)] = None,
    full: Annotated[bool, typer.Option("--full", help="Every kind of step and batch, with many repeats.")] = False,
    train: Annotated[bool, typer.Option("--train", help="Time a whole training as well.")] = False,
    to_psnr: Annotated[
        float | None, typer.Option(help="The same, and when its training frames reached this PSNR in dB.", min=1)
    ] = None,
    frames: Annotated[int, typer.Option(help="Of the rendered performance that is trained on.", min=10)] = 120,
    sequence: Annotated[
        Path | None, typer.Option(readable=False, help="A tracked sequence to train on instead.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(readable=False, help="A run or avatar whose inference to measure, not a new one's.")
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Memory of training under growing loads as well; takes minutes.")
    ] = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="BEFORE.json AFTER.json", readable=False, help="Measure nothing: compare two results."),
    ] = None,
    device: Device = "auto",
) -> None:
    """How long each part takes on this machine, and how long it would take at best.

    Times head, UV maps, offset network, rasteriser, losses, optimiser, whole
    steps and inference: medians with quartiles over repeated calls, each until
    the device has finished. The floor of a part is what its bytes and
    operations take at the rates of a copy and a matrix product, measured first.

    On a machine that does nothing else it takes about a minute with the cpu
    preset; --full takes several. The subject is a rendered performance.

    Example: [bold]stavatar bench -o now.json[/], later
    [bold]stavatar bench --compare before.json now.json[/]
    """
    if compare is not None:
        _show_comparison(*compare)
        return
    from stavatar import pipeline
    from stavatar.bench.suite import Wanted, benchmark
    from stavatar.files import write_json

    if sequence is not None and not (train or to_psnr):
        raise InputError("--sequence is what a whole training is timed on: add --train or --to-psnr")
    configuration = configure(preset, settings, device)
    if size is not None:
        configuration = replace(configuration, capture=replace(configuration.capture, size=size))
    if uv is not None:
        configuration = replace(configuration, network=replace(configuration.network, uv_size=uv))
    wanted = Wanted(
        gaussians=gaussians,
        full=full,
        train=train or to_psnr is not None,
        to_psnr=to_psnr,
        memory=memory,
        sequence=sequence,
        frames=frames,
        run=run,
    )
    result = benchmark(configuration, pipeline.choose_device(device), wanted)
    _show(result)
    if out is not None:
        write_json(out, result)
        say(f"written to {out}")


def _show(result: dict[str, Any]) -> None:
    """The tables of one result."""
    settings, versions, machine = result["settings"], result["versions"], result["machine"]
    on_gpu = result["device_type"] == "cuda"
    say(
        f"{result['device']}, {result['threads']} threads, torch {versions['torch']}, commit {versions['commit']}, "
        f"{result['date']}\npreset {settings['preset']}: {settings['gaussians']} Gaussians, {settings['size']} pixels, "
        f"UV {settings['uv']}\nbest rates: {max(machine['bandwidth'].values()) / 1e9:.0f} GB/s, "
        f"{machine['operations'] / 1e9:.0f} GFLOP/s"
    )
    names = ("ms", "±%", "busy" if on_gpu else "cpu", "floor", "ratio", "MiB", "FPS")
    table = Table("part", *(Column(name, justify="right", no_wrap=True) for name in names), box=None)
    for row in result["rows"]:
        floor = row.get("floor")
        table.add_row(
            _title(row["part"], row["variant"], row["frames"]),
            _number(row["median"]),
            f"{50 * (row['high'] - row['low']) / row['median']:.0f}",
            _number(row["busy"] if on_gpu else row["cpu"]),
            _number(floor),
            _number(row["median"] / floor) if floor else "",
            _number(row["peak_memory_mb"]),
            _number(row.get("frames_per_second")),
        )
    output.print(table)
    say(
        "ms: median of a call; ±%: half the distance of its quartiles; "
        + ("busy: its kernels alone; " if on_gpu else "cpu: all threads together; ")
        + "floor: what its bytes and operations take at the best rates; ratio: ms over floor; MiB: most memory held"
    )
    for name, why in result["missing"].items():
        say(f"{name} is missing: {why}")
    if result["training"] is not None:
        _show_training(result["training"])
    if result["memory"] is not None:
        columns = ("Gaussians", "frames", "pixels", "pictures wait", "peak MiB", "pictures MiB")
        table = Table(*(Column(name, justify="right") for name in columns))
        for row in result["memory"]:
            counts = [str(row[name]) for name in ("gaussians", "frames", "size", "where")]
            table.add_row(*counts, _number(row["peak_memory_mb"]), _number(row["pictures_mb"]))
        output.print(table)


def _show_training(training: dict[str, Any]) -> None:
    nearly, goal = training["to_95_percent"], training["goal"]
    say(
        f"training: {training['steps']} steps over {training['frames']} frames in {training['seconds']:.1f} s, "
        f"{training['frames_per_second']:.1f} frames/s, {training['final_psnr']:.2f} dB on training frames at the end; "
        f"95% of that after {nearly['seconds']:.1f} s"
    )
    if goal is not None:
        reached = "never" if goal["seconds"] is None else f"after {goal['seconds']:.1f} s"
        say(f"{goal['psnr']:.2f} dB: {reached}")


def _show_comparison(before: Path, after: Path) -> None:
    from stavatar.bench.compare import compare
    from stavatar.bench.result_file import read_benchmark

    comparison = compare(read_benchmark(before), read_benchmark(after))
    for name, values in comparison.circumstances.items():
        say(f"{name}: {values[0]} -> {values[1]}")
    columns = ("before ms", "after ms", "ratio")
    table = Table("part", *(Column(name, justify="right", no_wrap=True) for name in columns), "", box=None)
    colour = {"faster": "green", "slower": "red", "same": "dim"}
    for change in comparison.changes:
        table.add_row(
            _title(change.part, change.variant, change.frames),
            _number(change.before),
            _number(change.after),
            f"{change.ratio:.2f}",
            f"[{colour[change.verdict]}]{'within the spread' if change.verdict == 'same' else change.verdict}[/]",
        )
    output.print(table)
    for words, names in (("only before", comparison.only_before), ("only after", comparison.only_after)):
        if names:
            say(f"{words}: {'; '.join(names)}")


def _title(part: str, variant: str, frames: int) -> str:
    """What a row is called."""
    return f"{part}, {variant}" + (f" x{frames}" if frames > 1 else "")


def _number(value: float | None) -> str:
    """Three digits or so."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"

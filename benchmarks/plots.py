"""Draws what was measured: ``python -m benchmarks.plots COMPARISON.json GROWTH.json FOLDER``.

In an environment of its own, which has matplotlib; started by whoever has made the JSON files.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.environment import made

REQUIRES: Final = ("matplotlib==3.10.3",)
OURS: Final = "#c2410c"
THEIRS: Final = "#94a3b8"
BY_HAND: Final = "#475569"
POINTS: Final = {"p50": "50 %", "p95": "95 %", "p99": "99 %", "p99_9": "99.9 %"}


def _colour(name: str) -> str:
    if name.startswith("headrace"):
        return OURS
    return BY_HAND if name in {"by_hand", "scripts"} else THEIRS


def bars(plot: Any, results: dict[str, list[dict[str, float]]], title: str, path: Path) -> None:
    """Draw jobs a second, the best on top; the thin line is the range."""
    rows = {name: [one["per_s"] for one in runs] for name, runs in results.items() if runs}
    names = sorted(rows, key=lambda name: median(rows[name]))
    figure, axes = plot.subplots(figsize=(8, 0.34 * len(names) + 1))
    for place, name in enumerate(names):
        values, middle = rows[name], median(rows[name])
        axes.barh(place, middle, color=_colour(name), height=0.7)
        axes.plot([min(values), max(values)], [place, place], color="black", linewidth=1)
        axes.text(max(values), place, f"  {middle:,.0f}", va="center", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_xlabel("jobs a second; median and range")
    _finish(plot, figure, axes, title, path)


def latencies(
    plot: Any, results: dict[str, list[dict[str, float]]], title: str, path: Path
) -> None:
    """Draw each contestant's percentiles, the slowest tenths on a logarithmic scale."""
    figure, axes = plot.subplots(figsize=(8, 5.4))
    lines = {
        name: [median(one[point] for one in runs) for point in POINTS]
        for name, runs in results.items()
        if runs
    }
    label_at = 0.0
    for name, values in sorted(lines.items(), key=lambda line: line[1][-1]):
        width = 2.4 if name.startswith("headrace") else 1.1
        colour = _colour(name)
        axes.plot(
            list(POINTS.values()), values, color=colour, linewidth=width, marker="o", markersize=3
        )
        label_at = max(values[-1], 1.13 * label_at)  # so that they do not lie on each other
        axes.text(3.06, label_at, name, fontsize=7, va="center", color=colour)
    axes.set_yscale("log")
    axes.set_xlim(-0.2, 4.0)
    axes.set_ylabel("ms")
    _finish(plot, figure, axes, title, path)


def growth(plot: Any, curves: dict[str, dict[str, list[dict[str, float]]]], path: Path) -> None:
    """Draw the cost of a job on each curve, worker and server together."""
    figure, every = plot.subplots(1, len(curves), figsize=(3 * len(curves), 3), squeeze=False)
    for axes, (name, sizes) in zip(every[0], curves.items(), strict=True):
        costs = {int(n): [p["cpu_us"] + p["server_us"] for p in ps] for n, ps in sizes.items()}
        middles = [median(values) for values in costs.values()]
        axes.plot(list(costs), middles, color=OURS, marker="o", markersize=3)
        axes.fill_between(
            list(costs),
            [min(v) for v in costs.values()],
            [max(v) for v in costs.values()],
            color=OURS,
            alpha=0.2,
        )
        axes.set_xscale("log")
        axes.set_xticks(list(costs), [f"{size:,}" for size in costs], fontsize=7)
        axes.minorticks_off()
        if max(middles) > 10 * min(middles):
            axes.set_yscale("log")
        else:
            axes.set_ylim(0, max(middles) * 1.3)
        axes.set_title(name, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    every[0][0].set_ylabel("µs of processor for a job")
    figure.tight_layout()
    figure.savefig(path)
    plot.close(figure)


def _finish(plot: Any, figure: Any, axes: Any, title: str, path: Path) -> None:
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path)
    plot.close(figure)


def main(comparison: str, grown: str, folder: str) -> None:
    python = made("plots", REQUIRES)
    if Path(sys.executable) != Path(python):
        os.execv(python, [python, "-m", "benchmarks.plots", comparison, grown, folder])
    import matplotlib as mpl
    from matplotlib import pyplot as plot  # noqa: ICN001

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "headrace"  # the same numbers give the same file
    results = json.loads(Path(comparison).read_text())["results"]
    home = Path(folder)
    bars(plot, results["drain"], "Jobs that do nothing, one process", home / "drain.svg")
    bars(plot, results["enqueue-bulk"], "Enqueue, a thousand in a call", home / "enqueue-bulk.svg")
    latencies(plot, results["latency"], "From enqueue to start, idle worker", home / "latency.svg")
    growth(plot, json.loads(Path(grown).read_text()), home / "growth.svg")


if __name__ == "__main__":
    main(*sys.argv[1:])

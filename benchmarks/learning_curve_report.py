"""Writes the results of `learning_curve.py` as a section of docs/results.md, and its picture."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from harness import GUARD
from results_file import origin, replace_section, table

from simile.files import write_whole
from simile.reports.drawing import COLOURS, HEIGHT, WIDTH, draw_curves

Results = Mapping[str, Sequence[Mapping[str, Any]]]
"""By the name of a point, one result per seed."""

SETS = ("test-seen", "test-unseen", GUARD)
PICTURE = Path("images", "learning-curve.svg")
SERIES = {"untouched": "untouched encoder", "peer": "sentence-transformers", "simile": "Simile"}
"""Labels of the curves, by their keys in a result."""
AXES = {"documents per group": r"clinc150-(\d+)-per-group", "groups": r"clinc150-(\d+)-groups|clinc150-(100)-per-group"}
"""The rows of the picture: the name of the x-axis, and the points whose names hold its values."""
TITLE, MARGIN, LEGEND = 24, 28, 40
"""Heights in the picture: above and below each chart, and of the legend."""
COMMAND = "python benchmarks/learning_curve.py --data DIR"
ABOUT = """\
Each point is a corpus cut at random (always with the same random seed) to a number of documents per group, to a number
of groups with all their documents, or to one category; without a number, the whole corpus. Simile runs README's
commands, with the corpus' `dev` as `--target` and `--dev`, and no option but paths and the seed. The peer is plain
sentence-transformers on the same documents: multiple negatives ranking on 7,000 random positive pairs or three per
document, whichever is fewer, all weights, learning rate 5e-5, one epoch (`benchmarks/st_train.py`). Where groups are
cut, `dev` and `test-seen` keep the pairs whose groups both remain, so their classes are no longer balanced, and all
figures are lower; `test-unseen` stays whole.

The points named after a number of labelled pairs have neither documents nor `dev`. Every text_a is in two pairs: a
positive one with a random text of its group, and a negative one with the text of another group that is closest in
words. No other text is in two pairs. Both are given the same pairs, of which Simile holds a tenth out as its dev set
where that gives 100. The peer trains with CoSENT, 2e-5, three epochs."""
ABOUT_TRAINED = """\
Pairs are the mined ones by tier. Steps are those of Simile's training, logged in tens. Minutes are those of the
commands: `simile mine`, `simile train`, and the peer's training. Labelled pairs have no tier."""
ABOUT_QUALITY = f"""\
Each cell shows the Spearman correlation of the untouched encoder, the peer and Simile, then Simile minus the peer with
its 95 % interval (resampled by groups, on {GUARD} by texts). With several seeds (`--seeds 2`), all figures are
means over the seeds."""


def write_section(path: Path, results: Results) -> None:
    """Write the section ``learning-curve`` of the results, and the picture if there is something to draw."""
    parts = [origin(result for of_point in results.values() for result in of_point), f"```\n{COMMAND}\n```", ABOUT]
    if (drawing := picture(results)) is not None:
        (path.parent / PICTURE).parent.mkdir(parents=True, exist_ok=True)
        write_whole(path.parent / PICTURE, drawing)
        parts.append(f"![Spearman correlation by documents per group and by groups, on clinc150]({PICTURE.as_posix()})")
    if results:
        parts += ["### Learning curve: quality", ABOUT_QUALITY, _quality(results)]
        parts += ["### Learning curve: what was trained on", ABOUT_TRAINED, _trained(results)]
    replace_section(path, "learning-curve", "\n\n".join(parts))


def _quality(results: Results) -> str:
    rows = [
        [name, *(f"{of_point[0][key]:,}" for key in ("documents", "groups")), str(len(of_point))]
        + [_cell([result["sets"][set_name] for result in of_point if set_name in result["sets"]]) for set_name in SETS]
        for name, of_point in results.items()
    ]
    return table(["point", "documents", "groups", "seeds", *SETS], rows)


def _cell(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return the figures of a set, from one entry per seed; a figure is null where all scores are equal."""
    if not entries:
        return "-"
    untouched, peer, simile = (_mean([entry[key] for entry in entries], ".3f") for key in SERIES)
    gain, low, high = (
        _mean([entry["difference"][key] for entry in entries], "+.3f") for key in ("spearman", "low", "high")
    )
    return f"{untouched}, {peer}, **{simile}**; {gain} [{low}, {high}]"


def _mean(figures: Sequence[float | None], spec: str) -> str:
    return "-" if None in figures else format(mean(figure for figure in figures if figure is not None), spec)


def _trained(results: Results) -> str:
    first = next(iter(results.values()))[0]
    rows = []
    for name, of_point in results.items():
        counts = np.mean([[*result["tiers"].values(), result["steps"]] for result in of_point], axis=0)
        minutes = np.mean([list(result["seconds"].values()) for result in of_point], axis=0) / 60
        rows.append([name, *(f"{count:,.0f}" for count in counts), *(f"{of_command:.1f}" for of_command in minutes)])
    tiers = [f"pairs of tier `{tier}`" for tier in first["tiers"]]
    return table(["point", *tiers, "steps", *(f"minutes of {command}" for command in first["seconds"])], rows)


def picture(results: Results) -> str | None:
    """Return an SVG with a chart per test set and axis, or None where no axis has two points."""
    charts = []
    for row, (axis, pattern) in enumerate(AXES.items()):
        of_axis = {
            float(next(filter(None, match.groups()))): results[name]
            for name in results
            if (match := re.fullmatch(pattern, name))
        }
        for column, set_name in enumerate(SETS[:2]):
            curves = {label: _points(of_axis, set_name, key) for key, label in SERIES.items()}
            if min(map(len, curves.values())) < 2:
                continue
            title = f"clinc150 {set_name}: Spearman by {axis}"
            chart = draw_curves(curves, title, log_x=True).markup
            y = LEGEND + row * (TITLE + HEIGHT + MARGIN)
            size = f'<svg width="{WIDTH}" height="{HEIGHT}" y="{TITLE}" overflow="visible" '
            charts.append(
                f'<g transform="translate({column * WIDTH} {y})"><text class="title" x="16" y="16">{title}</text>'
                + chart.replace("<svg ", size, 1)
                + "</g>"
            )
    if not charts:
        return None
    height = LEGEND + len(AXES) * (TITLE + HEIGHT + MARGIN)
    legend = "".join(
        f'<rect x="{16 + 200 * index}" y="17" width="16" height="4" fill="var(--c{index})"/>'
        f'<text class="title" x="{38 + 200 * index}" y="24">{label}</text>'
        for index, label in enumerate(SERIES.values())
    )
    style = "text { font: 12px system-ui, sans-serif; fill: var(--muted) } .title { font-size: 14px; fill: var(--ink) }"
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {height}"><style>{style}</style>'
        f'<rect width="100%" height="100%" fill="var(--ground)"/>{legend}{"".join(charts)}</svg>\n'
    )
    # An image has no page whose style it could take its colours from.
    return re.sub(r"var\(--(\w+)\)", lambda name: COLOURS[name[1]], drawing)


def _points(of_axis: Mapping[float, Sequence[Mapping[str, Any]]], set_name: str, key: str) -> np.ndarray:
    """Return the points (value on the axis, mean over the seeds) of one curve, shape (points, 2)."""
    figures = {x: [result["sets"].get(set_name, {}).get(key) for result in of_axis[x]] for x in sorted(of_axis)}
    return np.array([(x, mean(values)) for x, values in figures.items() if None not in values]).reshape(-1, 2)

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest

from simile.reports import theme
from simile.reports.charts import NUM_COLOURS
from simile.reports.drawing import _CLASSES, COLOURS
from tests.colours import contrast, linear

CSS = files("simile.reports").joinpath("style.css").read_text("utf-8")
THEME = theme()

# What each kind of colour blindness makes of linear RGB. Source: Machado et al. 2009, doi:10.1109/TVCG.2009.113.
SEEN_BY = {
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def palette(scheme):
    light, dark = THEME.split("@media (prefers-color-scheme: dark)")
    codes = dict(re.findall(r"--(\w+): #(\w{6});", light if scheme == "light" else dark))
    return {name: linear(*bytes.fromhex(code)) for name, code in codes.items()}


def lab(colour):
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ np.clip(colour, 0, 1) / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_series_stand_out_from_the_ground(scheme):
    colours = palette(scheme)
    assert all(contrast(colours[name], colours["ground"]) >= 4.5 for name in ("ink", "muted", "good", "bad", "note"))
    assert all(contrast(colours[f"c{index}"], colours["ground"]) >= 3 for index in range(NUM_COLOURS))
    assert contrast(colours["muted"], colours["raised"]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("eyes", SEEN_BY)
def test_series_are_told_apart_by_all_eyes(scheme, eyes):
    colours = palette(scheme)
    seen = [lab(np.array(SEEN_BY[eyes]) @ colours[f"c{index}"]) for index in range(NUM_COLOURS)]
    assert min(float(np.linalg.norm(one - other)) for one, other in combinations(seen, 2)) > 15


def test_every_colour_of_a_series_is_in_the_theme():
    assert re.findall(r"--c(\d):", THEME) == 2 * [str(index) for index in range(NUM_COLOURS)]


def test_charts_draw_with_colours_that_have_one_name_each():
    assert set(palette("light")) == set(palette("dark")) == set(COLOURS)
    assert len(set(COLOURS.values())) == len(COLOURS)


@pytest.mark.parametrize("reference", [r"var\(--(\w+)\)", "(?<!&)#[0-9a-f]{3,8}|rgb|black|white"])
def test_charts_have_no_colour_beside_those_of_the_page(blocks, reference):
    charts = "".join(block.markup for block in blocks("text") if "<svg" in block.markup)
    assert set(re.findall(reference, charts)) <= set(COLOURS) | {"c"}


def test_the_style_knows_every_class_of_the_charts():
    assert {"area", "bins", "curve", "dots", "hollow", "row", "value"} <= _CLASSES
    assert all(f".{name}" in CSS for name in _CLASSES - {"interval", "mean"})


def test_the_style_holds_nothing_that_would_break_a_well_formed_page():
    assert "<" not in CSS
    assert "&" not in CSS


def test_every_colour_of_a_style_is_one_of_the_theme():
    for css in (CSS, files("serving.page").joinpath("page.css").read_text("utf-8")):
        used = set(re.findall(r"var\(--(\w+)\)", css)) - {"tone", "c"}
        assert used <= set(re.findall(r"--(\w+):", THEME))
        assert not re.findall(r"#[0-9a-f]{3,8}\b", css)

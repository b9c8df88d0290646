import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

from simile import reports

ROOT = Path(__file__).parents[2]
HOSTILE = "<script>alert(1)</script>\"'&</style>]]>"


def test_every_public_function_is_exercised_by_the_page_of_every_block(blocks):
    functions = {name for name, value in vars(reports).items() if inspect.isfunction(value)} - {"page", "theme"}
    called = set(blocks.__code__.co_names)
    assert functions <= called


def test_no_place_that_takes_text_lets_markup_through(blocks, parse):
    page = reports.page(HOSTILE, HOSTILE, blocks(HOSTILE))
    root = parse(page)
    assert "<script" not in page
    assert not list(root.iter("script"))
    assert len(list(root.iter("style"))) == 1
    assert root.findtext("head/title") == HOSTILE


@pytest.mark.parametrize("place", range(15))
def test_text_of_each_block_comes_out_as_it_went_in(blocks, parse, place):
    assert HOSTILE in "".join(parse(blocks(HOSTILE)[place]).itertext())


def test_the_page_refers_to_nothing_outside(blocks):
    page = reports.page("title", "subtitle", blocks("text"))
    for reference in ("http://", "https://", "src=", "href=", "@import", "url(", "<script", "<link"):
        assert reference not in page


def test_the_page_is_well_formed_and_every_drawing_has_a_label(blocks, parse):
    root = parse(reports.page("title", "subtitle", blocks("text")))
    drawings = list(root.iter("svg"))
    assert len(drawings) == 3
    for drawing in drawings:
        assert drawing.get("role") == "img"
        assert "text" in drawing.get("aria-label")
        assert drawing.get("viewBox")


def test_no_identifier_occurs_in_a_page(blocks, parse):
    assert not [element for element in parse(reports.page("a", "b", blocks("text"))).iter() if element.get("id")]


def test_the_same_blocks_make_the_same_page(blocks):
    assert reports.page("a", "b", blocks("text")) == reports.page("a", "b", blocks("text"))


def test_the_same_figures_give_the_same_bytes_in_another_process_and_under_other_settings(tmp_path):
    command = [
        sys.executable,
        "-c",
        "import sys; from tests.reports.conftest import every_block as e\n"
        "from simile.reports import page; sys.stdout.buffer.write(page('a', 'b', e('text')).encode())",
    ]
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 7\nsvg.fonttype: path\nfont.size: 31\n")
    environs = [{"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2", "MATPLOTLIBRC": str(tmp_path)}]
    one, other = (
        subprocess.run(command, env={**os.environ, **environ}, cwd=ROOT, capture_output=True, check=True).stdout
        for environ in environs
    )
    assert one == other != b""


def test_drawing_leaves_the_settings_of_matplotlib_as_they_are(blocks):
    with matplotlib.rc_context({"lines.linewidth": 7}):
        blocks("text")
        assert matplotlib.rcParams["lines.linewidth"] == 7
        assert matplotlib.rcParams["svg.fonttype"] == "path"


def test_reports_are_imported_without_jinja_and_matplotlib():
    source = (
        "import sys; from simile.reports import theme; theme(); "
        "sys.exit(bool({'jinja2', 'markupsafe', 'matplotlib'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", source], cwd=ROOT, check=False).returncode == 0


def test_charts_are_drawn_without_pyplot():
    source = "import sys, simile.reports.drawing; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], cwd=ROOT, check=False).returncode == 0


def test_what_html_cannot_hold_becomes_a_replacement_character(parse):
    page = reports.page("a\0b", "lone \ud800 surrogate", [reports.paragraph("bell \a, escape \x1b")])
    assert page.encode("utf-8")
    assert parse(page).findtext("head/title") == "a\ufffdb"


def test_line_breaks_and_other_scripts_survive(parse):
    text = "first\n\tsecond آپ 你好 😀"
    assert parse(reports.paragraph(text)).text == text


def test_a_string_where_a_block_belongs_is_set_as_text(parse):
    assert "<b>raw</b>" in "".join(parse(reports.details("summary", ["<b>raw</b>"])).itertext())


def test_coordinates_in_the_page_are_all_finite(blocks):
    assert not re.search(r'="[^"]*\b(nan|inf)\b[^"]*"', reports.page("a", "b", blocks("text")))

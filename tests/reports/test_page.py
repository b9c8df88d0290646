import re

import pytest

from simile import reports

HOSTILE = "<script>alert(1)</script>\"'&</style>]]>"


def test_every_public_function_is_exercised_by_the_page_of_every_block(blocks):
    source = reports.__all__
    functions = {name for name in source if callable(getattr(reports, name)) and name[0].islower()} - {"page", "theme"}
    called = set(blocks.__code__.co_names)
    assert functions <= called


def test_no_place_that_takes_text_lets_markup_through(blocks, parse):
    page = reports.page(HOSTILE, HOSTILE, blocks(HOSTILE))
    root = parse(page)
    assert "<script" not in page
    assert not list(root.iter("script"))
    assert len(list(root.iter("style"))) == 1
    assert root.findtext("head/title") == HOSTILE


@pytest.mark.parametrize("place", range(19))
def test_text_of_each_block_comes_out_as_it_went_in(blocks, parse, place):
    assert HOSTILE in "".join(parse(blocks(HOSTILE)[place]).itertext())


def test_the_page_refers_to_nothing_outside(blocks):
    page = reports.page("title", "subtitle", blocks("text"))
    for reference in ("http://", "https://", "src=", "href=", "@import", "url(", "<script", "<link"):
        assert reference not in page


def test_the_page_is_well_formed_and_so_is_every_drawing(blocks, parse):
    root = parse(reports.page("title", "subtitle", blocks("text")))
    drawings = list(root.iter("svg"))
    assert len(drawings) > 8
    nested = {id(inner) for svg in drawings for inner in svg.iter("svg") if inner is not svg}
    for svg in drawings:
        if id(svg) not in nested and svg.get("aria-hidden") != "true":
            assert svg.get("role") == "img"
            assert svg.get("aria-label")


def test_the_same_blocks_make_the_same_page(blocks):
    assert reports.page("a", "b", blocks("text")) == reports.page("a", "b", blocks("text"))


def test_what_html_cannot_hold_becomes_a_replacement_character(parse):
    page = reports.page("a\0b", "lone \ud800 surrogate", [reports.paragraph("bell \a, escape \x1b")])
    assert page.encode("utf-8")
    assert parse(page).findtext("head/title") == "a\ufffdb"


def test_line_breaks_and_other_scripts_survive(parse):
    text = "first\n\tsecond آپ 你好 😀"
    assert parse(reports.code(text)).findtext("code") == text


def test_a_string_where_a_block_belongs_is_set_as_text(parse):
    assert "<b>raw</b>" in "".join(parse(reports.details("summary", ["<b>raw</b>"])).itertext())


def test_all_that_is_exported_is_public_and_there():
    assert reports.__all__ == sorted(reports.__all__)
    assert all(hasattr(reports, name) for name in reports.__all__)


def test_coordinates_in_the_page_are_all_finite(blocks):
    assert not re.search(r'="[^"]*\b(nan|inf)\b[^"]*"', reports.page("a", "b", blocks("text")))

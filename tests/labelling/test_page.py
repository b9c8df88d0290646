"""The labelling page in a browser: with the keyboard alone, by touch on a phone's width, and through a restart."""

import json
import re
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect

from labelling.answers import read_answers, read_journal
from labelling.order import labelling_order
from simile.artifacts.sampled_pairs import read_sampled_pairs
from tests.browsers import launched, needs_chromium, opened
from tests.colours import contrast, linear
from tests.labelling.labelling_servers import free_port, labelling, write_pairs

HTML = "<b>bold</b><img src=x onerror=alert(1)>"
PAIRS = [
    ("How do I cancel?", "how can I cancel it"),
    (HTML, "plain text"),
    ("My card has not arrived yet.", "Somebody took my card."),
    ("no signal", "no bars at all"),
    ("water " * 600, "cold water " * 300),
]
GUIDE = "# When they are the same\n\nIf **one answer** serves both.\n\n- not `case`\n- <script>alert(1)</script>\n"


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture
def out(tmp_path):
    return tmp_path / "labelled.jsonl"


@pytest.fixture
def pairs(tmp_path):
    return write_pairs(tmp_path / "pairs.jsonl", PAIRS)


@pytest.fixture
def server(pairs, out, tmp_path):
    (tmp_path / "guide.md").write_text(GUIDE)
    with labelling(pairs, out, "--guidelines", str(tmp_path / "guide.md")) as server:
        yield server


@contextmanager
def loaded(browser, url, **options):
    with opened(browser, url, **options) as page:
        expect(page.locator("#pair")).to_be_visible()
        yield page


@pytest.fixture
def page(browser, server):
    with loaded(browser, server.url) as page:
        yield page


def shown_texts(page) -> tuple[str, ...]:
    return tuple(page.locator(name).text_content() for name in ("#first", "#second"))


def expect_done(page, num) -> None:
    expect(page.locator("#part")).to_contain_text(f": {num} of {len(PAIRS)}")


@needs_chromium
def test_all_pairs_are_labelled_by_keyboard_alone(page, pairs, out):
    texts = [(task.pair.text_a, task.pair.text_b) for task in labelling_order(read_sampled_pairs(pairs))]
    for num, (key, expected) in enumerate(zip("sd3 1", texts, strict=True), start=1):
        assert shown_texts(page) == expected
        if num == 2:
            page.keyboard.press("n")
            page.keyboard.type("a sound dud")
            page.keyboard.press("Enter")
        page.keyboard.press(key)
        if num < len(PAIRS):
            expect_done(page, num)
    expect(page.locator("#end")).to_be_visible()
    expect(page.locator("#counts")).to_have_text("2 same, 1 different, 1 unsure, 1 skip")
    answers = read_answers(out)
    assert [one.answer for one in answers] == ["same", "different", "unsure", "skip", "same"]
    assert [(one.text_a, one.text_b) for one in answers] == texts
    assert [one.note for one in answers] == ["", "a sound dud", "", "", ""]
    page.keyboard.press("Backspace")
    expect(page.locator("#pair")).to_be_visible()
    page.keyboard.press("z")
    expect_done(page, 3)
    assert len(read_answers(out)) == 3


@needs_chromium
def test_key_that_is_held_down_is_one_answer(page, out):
    page.keyboard.down("s")
    expect_done(page, 1)
    for _ in range(5):
        page.keyboard.down("s")
    page.keyboard.up("s")
    page.keyboard.press("u")
    expect_done(page, 2)
    assert [one.answer for one in read_answers(out)] == ["same", "unsure"]


@needs_chromium
def test_space_skips_after_a_click_and_presses_a_button_that_has_the_focus(page, out):
    page.get_by_role("button", name="Same").click()
    expect_done(page, 1)
    page.keyboard.press("Space")
    expect_done(page, 2)
    page.get_by_role("button", name="Different").focus()
    page.keyboard.press("Space")
    expect_done(page, 3)
    assert [one.answer for one in read_answers(out)] == ["same", "skip", "different"]


@needs_chromium
def test_differing_words_are_marked_and_html_is_text(page, pairs):
    order = [task.pair.text_a for task in labelling_order(read_sampled_pairs(pairs))]
    for text in order:
        expect(page.locator("#first")).to_have_text(re.sub(r"\s+", " ", text).strip())
        if text == HTML:
            assert page.locator("#pair img, #pair b").count() == 0
        if text.startswith("How"):
            assert page.locator("#first mark").all_inner_texts() == ["do"]
            assert page.locator("#second mark").all_inner_texts() == ["can", "it"]
        page.keyboard.press("s")


@needs_chromium
def test_guidelines_are_rendered_without_their_html(page):
    guide = page.locator("#guide")
    assert guide.locator("h3").inner_text() == "When they are the same"
    assert guide.locator("strong").inner_text() == "one answer"
    assert guide.locator("li").all_inner_texts() == ["not case", "<script>alert(1)</script>"]
    assert guide.locator("script").count() == 0


@needs_chromium
def test_page_on_a_phone_fits_and_is_answered_by_touch(browser, server, out):
    options = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}
    with loaded(browser, server.url, **options) as page:
        for num, name in enumerate(("Same", "Different", "Unsure", "Skip", "Same"), start=1):
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
            button = page.get_by_role("button", name=name, exact=True)
            box = button.bounding_box()
            assert box["height"] >= 44
            assert box["y"] + box["height"] <= 640
            button.tap()
            if num < len(PAIRS):
                expect_done(page, num)
        expect(page.locator("#end")).to_be_visible()
        page.get_by_role("button", name="Undo").tap()
        expect(page.locator("#pair")).to_be_visible()
    assert [one.answer for one in read_answers(out)] == ["same", "different", "unsure", "skip"]


@needs_chromium
def test_click_while_the_server_is_away_is_saved_once_it_is_back(browser, pairs, out):
    port = free_port()
    with labelling(pairs, out, port=port) as first, loaded(browser, first.url) as page:
        page.keyboard.press("s")
        expect_done(page, 1)
        first.process.kill()
        first.process.wait()
        page.keyboard.press("d")
        expect(page.locator("#trouble")).to_contain_text("Not saved yet")
        page.keyboard.press("u")
        with labelling(pairs, out, port=port):
            expect(page.locator("#part")).to_contain_text(": 2 of", timeout=20_000)
            expect(page.locator("#trouble")).to_be_hidden()
    assert [one.answer for one in read_journal(out)] == ["same", "different"]


@needs_chromium
def test_second_window_is_shown_the_next_pair(browser, server, page, out):
    with loaded(browser, server.url) as second:
        page.keyboard.press("s")
        expect_done(page, 1)
        second.keyboard.press("d")
        expect(second.locator("#trouble")).to_contain_text("Another window has answered meanwhile")
        expect_done(second, 1)
    assert [one.answer for one in read_answers(out)] == ["same"]


@needs_chromium
def test_no_score_reaches_the_browser(browser, tmp_path, out):
    rows = [
        {"text_a": f"a {i}", "text_b": f"b {i}", "bundle_score": 0.1234 + i, "baseline_score": 0.5678} for i in range(4)
    ]
    bodies: list[str] = []
    with labelling(write_pairs(tmp_path / "scored.jsonl", rows), out) as server, loaded(browser, server.url) as page:
        page.on("response", lambda response: bodies.append(response.text()))
        page.reload()
        for num in range(len(rows)):
            expect(page.locator("#left")).to_have_text(f"{num} of 4 in all")
            page.keyboard.press("s")
        expect(page.locator("#end")).to_be_visible()
    states = [body for body in bodies if body.startswith("{")]
    assert len(states) >= len(rows)
    assert not any("1234" in body or "5678" in body or "_score" in body for body in states)
    assert json.loads(states[-1])["pair"] is None


@needs_chromium
def test_audited_pairs_are_shown_with_their_labels_in_the_order_of_the_file(browser, tmp_path, out):
    rows = [
        {"text_a": "z", "text_b": "y", "label": 1, "reason": "The bundle gives 0.12."},
        {"text_a": "a", "text_b": "b", "label": 0},
    ]
    with labelling(write_pairs(tmp_path / "suspects.jsonl", rows), out) as server, loaded(browser, server.url) as page:
        expect(page.locator("#present")).to_have_text("Labelled: same The bundle gives 0.12.")
        page.keyboard.press("d")
        expect(page.locator("#present")).to_have_text(re.compile("Labelled: different"))
        page.keyboard.press("d")
        expect(page.locator("#end")).to_be_visible()
    assert [(one.text_a, one.answer, one.part) for one in read_answers(out)] == [
        ("z", "different", "audit"),
        ("a", "different", "audit"),
    ]


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marked_words_and_labels_of_keys_are_readable(browser, server, scheme):
    with loaded(browser, server.url, color_scheme=scheme) as page:
        page.keyboard.press("s")
        expect_done(page, 1)
        for front, back in (("mark", "mark"), (".progress", "body"), (".answers kbd", ".answers button")):
            assert contrast(*(colour(page, *one) for one in ((front, "color"), (back, "backgroundColor")))) >= 4.5


def colour(page, selector, name):
    """Return the colour as it is painted, over the text's ground."""
    channels = page.evaluate(
        """([selector, name]) => {
          const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
          const ground = getComputedStyle(document.querySelector(".text")).backgroundColor;
          for (const colour of [ground, getComputedStyle(document.querySelector(selector))[name]]) {
            paint.fillStyle = colour;
            paint.fillRect(0, 0, 1, 1);
          }
          return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
        }""",
        [selector, name],
    )
    return linear(*channels)

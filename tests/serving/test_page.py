import csv
import json
import re
import subprocess
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import expect

from serving.app import create_app
from serving.page import PATHS
from serving.settings import Settings
from simile.artifacts import Bundle
from simile.artifacts.bundle import Thresholds
from simile.scoring import Scorer, load
from tests.browsers import launched, needs_chromium, opened
from tests.colours import contrast, linear
from tests.live_servers import SIMILARITY, Watched, served
from tests.tiny_ensembles import Ensemble

KEY = "planted-key-1234"


@pytest.fixture(scope="module")
def url(scorer):
    with served(create_app(Settings(max_characters=200), scorer)) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture
def page(browser, url):
    with opened(browser, url) as page:
        yield page


def texts_of(page, selector) -> list[str]:
    return page.locator(selector).all_inner_texts()


def score_list(page, lines) -> None:
    page.locator("input[value=list]").check()
    page.locator("#lines").fill("\n".join(lines))
    page.locator("#compare").click()


def score_texts(page, texts) -> None:
    page.locator("input[value=texts]").check()
    page.locator("#each").fill("\n".join(texts))
    page.locator("#compare").click()


def column_of(page, number) -> list[str]:
    return [text.strip() for text in texts_of(page, f".pairs tbody td:nth-child({number})")]


def heat_of(page) -> list[list[str]]:
    rows = page.locator(".heat tbody tr")
    expect(rows.first).to_be_visible()
    return [row.locator("td").all_inner_texts() for row in rows.all()]


def shown(score, digits=3) -> str:
    return f"{score:z.{digits}f}".replace("-", "\N{MINUS SIGN}")


def selected_line(page, field) -> str:
    return page.locator(field).evaluate("field => field.value.slice(field.selectionStart, field.selectionEnd)")


def expect_error(page, field, message) -> None:
    """The error is below the field, which has the focus, and which assistive technology links with it."""
    expect(page.locator(f".field:has({field}) #error")).to_have_text(message)
    expect(page.locator(field)).to_be_focused()
    expect(page.locator(field)).to_have_attribute("aria-invalid", "true")
    expect(page.locator(field)).to_have_attribute("aria-describedby", "error")


@needs_chromium
def test_two_texts_are_compared_by_keyboard_alone(page, scorer):
    pair = ("The water was cold.", "A cold drink of water.")
    page.locator("input[value=pair]").focus()
    page.keyboard.press("Tab")
    page.keyboard.type(pair[0])
    page.keyboard.press("Tab")
    page.keyboard.type(pair[1])
    page.keyboard.press("Control+Enter")
    scored = scorer.score_members([pair])
    expect(page.locator(".gauge .number")).to_have_text(f"{scored.score_P[0]:.3f}")
    assert texts_of(page, ".bars > span") == [
        part for name, score_P in scored.members.items() for part in (name, f"{score_P[0]:.3f}")
    ]
    probability = 1 / (1 + 2.718281828 ** -(8 * scored.score_P[0] - 4))
    assert f"{100 * probability:.0f} %" in page.locator(".meanings").inner_text()


@needs_chromium
def test_curl_call_on_the_page_gives_the_same_answer(page, scorer):
    page.locator("#text-a").fill('it\'s "cold" & $HOME `id` \\ é\nwater')
    page.locator("#text-b").fill("cold water")
    page.locator("#compare").click()
    expect(page.locator("#call")).to_be_visible()
    answer = subprocess.run(
        ["sh", "-c", page.locator("#curl").inner_text()], capture_output=True, text=True, check=True
    )
    score = json.loads(answer.stdout)["scores"][0]
    assert f"{score:.3f}" == page.locator(".gauge .number").text_content()


@needs_chromium
def test_list_of_pairs_is_scored_line_by_line(page, scorer):
    score_list(page, ["no signal\tno bars", "", "The water was cold. | A cold drink of water.", ""])
    expect(page.locator("tbody tr")).to_have_count(2)
    score_P = scorer.score([("no signal", "no bars"), ("The water was cold.", "A cold drink of water.")])
    assert column_of(page, 1) == ["1", "3"]
    assert column_of(page, 2) == [shown(score) for score in score_P]


@needs_chromium
def test_score_and_probability_are_explained(page):
    page.locator("#examples button").first.click()
    meaning = page.locator(".meanings")
    expect(meaning).to_contain_text("The weighted mean of the members' cosine similarities, from \N{MINUS SIGN}1 to 1.")
    expect(meaning).to_contain_text("people would say that the two texts mean the same, if 50 % of all pairs do.")


@needs_chromium
def test_threshold_of_the_bundle_is_named_beside_the_score(browser, bundle, scorer):
    manifest = bundle.manifest.model_copy(update={"thresholds": Thresholds(best_f1=-0.25, precision_95=None)})
    with (
        served(create_app(Settings(), Scorer(Bundle(bundle.path, manifest, bundle.data), scorer.runtime))) as url,
        opened(browser, url) as page,
    ):
        page.locator("#examples button").first.click()
        expect(page.locator(".meanings")).to_contain_text("the bundle's threshold of \N{MINUS SIGN}0.250")
        expect(page.locator(".verdict")).to_have_text("Similar")


@needs_chromium
def test_bundle_without_calibration_is_said_to_have_none(browser, uncalibrated):
    with served(create_app(Settings(), uncalibrated)) as url, opened(browser, url) as page:
        score_list(page, ["no signal | no bars"])
        expect(page.locator("#result")).to_contain_text("This bundle is not calibrated, so it gives no probability.")
        assert texts_of(page, "th") == ["Line", "Score", "First text", "Second text"]


LINES = ["cold water | water", "water | fire", "card | card", "same | same", "the signal | no signal"]


@needs_chromium
def test_first_sort_by_score_begins_with_the_highest(page, scorer):
    score_list(page, LINES)
    page.get_by_role("button", name="Score").click()
    score_P = scorer.score([tuple(line.split(" | ")) for line in LINES])
    assert column_of(page, 2) == [shown(score) for score in sorted(score_P, reverse=True)]
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"


@needs_chromium
def test_second_sort_reverses_the_order_and_leaves_ties_in_theirs(page):
    score_list(page, ["b | x", "a | x", "b | y", "a | y"])
    head = page.get_by_role("button", name="First text")
    head.click()
    assert column_of(page, 1) == ["2", "4", "1", "3"]
    head.focus()
    page.keyboard.press("Enter")
    assert column_of(page, 1) == ["1", "3", "2", "4"]
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"


@needs_chromium
def test_sort_by_line_recovers_the_order_of_the_list(page):
    score_list(page, LINES)
    page.get_by_role("button", name="Second text").click()
    page.get_by_role("button", name="Line").click()
    assert column_of(page, 1) == ["1", "2", "3", "4", "5"]


def downloaded(page) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    assert download.value.suggested_filename == "scores.csv"
    return Path(download.value.path()).read_bytes()


@needs_chromium
def test_csv_has_the_scores_of_the_api_in_the_order_shown(page):
    score_list(page, LINES)
    page.get_by_role("button", name="Second text").click()
    header, *rows = csv.reader(downloaded(page).decode("utf-8-sig").splitlines())
    pairs = [line.split(" | ") for line in LINES]
    answer = httpx2.post(f"{page.url}v1/similarity", json={"pairs": pairs}).json()
    assert header == ["line", "score", "probability", "text_a", "text_b"]
    assert [row[0] for row in rows] == column_of(page, 1)
    for line, score, probability, *pair in rows:
        place = int(line) - 1
        figures = (answer["scores"][place], answer["probabilities"][place])
        assert (float(score), float(probability), pair) == (*figures, pairs[place])


@needs_chromium
def test_csv_is_quoted_by_rfc_4180_after_a_byte_order_mark(page):
    score_list(page, ['say "cold", water | é'])
    content = downloaded(page)
    assert content.startswith(b"\xef\xbb\xbfline,")
    assert content.decode("utf-8").endswith(',"say ""cold"", water",é\r\n')


@needs_chromium
def test_csv_has_an_apostrophe_before_a_text_that_begins_like_a_formula(page):
    score_list(page, ["=1+2 | +1", "-1 | @a", "a=1 | 'b"])
    rows = list(csv.DictReader(downloaded(page).decode("utf-8-sig").splitlines()))
    assert [(row["text_a"], row["text_b"]) for row in rows] == [("'=1+2", "'+1"), ("'-1", "'@a"), ("a=1", "'b")]
    assert all(float(row["score"]) <= 1 for row in rows)


TEXTS = ["no signal", "The water was cold.", "A cold drink of water.", "My card has not arrived yet."]


@needs_chromium
def test_heat_map_has_the_scores_of_the_api_on_both_sides_of_an_empty_diagonal(page):
    score_texts(page, TEXTS)
    cells = heat_of(page)
    answer = httpx2.post(f"{page.url}v1/similarity", json={"pairs": [[a, b] for a in TEXTS for b in TEXTS]}).json()
    scores = iter(answer["scores"])
    expected = [["" if a == b else shown(score, 2) for b, score in zip(TEXTS, scores, strict=False)] for a in TEXTS]
    assert cells == expected


@needs_chromium
def test_heat_map_of_a_bundle_with_sides_scores_both_orders(browser, tmp_path):
    scorer = load(Ensemble(tmp_path).write("sided", sides=("My card ", "The ")).path, device="cpu", precision="fp32")
    with served(create_app(Settings(), scorer)) as url, opened(browser, url) as page:
        score_texts(page, TEXTS[:2])
        forth, back = scorer.score([(TEXTS[0], TEXTS[1]), (TEXTS[1], TEXTS[0])])
        assert heat_of(page) == [["", shown(forth, 2)], [shown(back, 2), ""]]
        assert forth != pytest.approx(back, abs=0.01)
        expect(page.locator("#result")).to_contain_text("A row has a first text, and a column a second text.")


@needs_chromium
def test_focused_cell_of_the_heat_map_shows_its_texts_and_score(page, scorer):
    score_texts(page, TEXTS)
    expect(page.locator(".heat td").first).to_be_visible()
    page.locator("#compare").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Home")
    for key in ("ArrowUp", "ArrowUp", "ArrowUp", "ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    (score,) = scorer.score([(TEXTS[1], TEXTS[2])])
    assert texts_of(page, ".detail p")[1:] == [f"2 {TEXTS[1]}", f"3 {TEXTS[2]}"]
    assert texts_of(page, ".detail p")[0].startswith(f"Score {shown(score)}, probability ")
    assert page.locator(".heat td[tabindex='0']").count() == 1


@needs_chromium
def test_heat_map_is_reached_by_keyboard_alone(page):
    page.locator("input[value=pair]").focus()
    for key in ("ArrowDown", "ArrowDown", "Tab", "Control+a"):
        page.keyboard.press(key)
    page.keyboard.type("no signal\nno bars")
    page.keyboard.press("Control+Enter")
    assert len(heat_of(page)) == 2
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.locator(".heat td:focus")).to_have_count(1)


@needs_chromium
def test_cell_under_the_pointer_shows_its_texts(page):
    score_texts(page, TEXTS)
    page.locator(".heat tbody tr").nth(3).locator("td").nth(0).hover()
    assert texts_of(page, ".detail p")[1:] == [f"4 {TEXTS[3]}", f"1 {TEXTS[0]}"]


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_cell_of_the_heat_map_is_readable(browser, url, scheme):
    with opened(browser, url, color_scheme=scheme) as page:
        score_texts(page, TEXTS)
        heat_of(page)
        # A canvas gives the red, green and blue of whatever colour CSS names.
        cells = page.locator(".heat td:not(:empty)").evaluate_all(
            """cells => {
                const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
                const colour = (css) => {
                    canvas.fillStyle = css;
                    canvas.fillRect(0, 0, 1, 1);
                    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
                };
                return cells.map(getComputedStyle).map((style) => [colour(style.backgroundColor), colour(style.color)]);
            }"""
        )
    assert len({tuple(ground) for ground, _ink in cells}) > 2
    assert min(contrast(linear(*ground), linear(*ink)) for ground, ink in cells) >= 4.5


@needs_chromium
def test_thirty_texts_are_the_most_of_a_heat_map(page):
    score_texts(page, [f"text {number}" for number in range(30)])
    assert len(heat_of(page)) == 30
    score_texts(page, [f"text {number}" for number in range(31)])
    expect_error(page, "#each", "Got 31 texts, need 2 to 30, one per line.")
    assert selected_line(page, "#each") == "text 30"


@needs_chromium
@pytest.mark.parametrize(("limits", "sizes"), [({"max_pairs": 4}, [4, 2]), ({"max_body_bytes": 250}, [3, 2, 1])])
def test_pairs_beyond_the_limits_of_a_request_are_sent_in_several(browser, scorer, limits, sizes):
    app = Watched(create_app(Settings(**limits), scorer))
    with served(app) as url, opened(browser, url) as page:
        score_texts(page, TEXTS)
        cells = heat_of(page)
        expect(page.locator("#call-title")).to_have_text(f"The first of the {len(sizes)} requests from a terminal")
    assert cells[2][3] == shown(scorer.score([(TEXTS[2], TEXTS[3])])[0], 2)
    assert [len(json.loads(body)["pairs"]) for body in app.bodies] == sizes


@needs_chromium
def test_example_is_one_click_away(page):
    page.locator("#examples button").first.click()
    expect(page.locator(".gauge")).to_be_visible()
    assert page.locator("#text-a").input_value()


@needs_chromium
@pytest.mark.parametrize(
    ("texts", "field", "message"),
    [
        (("a" * 201, "b"), "#text-a", "Got 201 characters, need at most 200."),
        (("a", "b" * 202), "#text-b", "Got 202 characters, need at most 200."),
        (("a", " "), "#text-b", "Got an empty text, need a non-empty text."),
    ],
)
def test_error_of_the_server_is_at_the_text_that_it_is_about(page, texts, field, message):
    page.locator("#text-a").fill(texts[0])
    page.locator("#text-b").fill(texts[1])
    page.locator("#compare").click()
    expect_error(page, field, message)
    assert page.locator("#result").is_hidden()


@needs_chromium
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("only one text", "Line 3 has no second text: put a tab or | between the two texts."),
        ("one text | ", "Line 3 has no second text: put a tab or | between the two texts."),
        ("\tother text", "Line 3 has no first text."),
        ("a | b | c", "Line 3 has 3 texts: put one tab or one | between two texts."),
        (f"a | {'b' * 201}", "Line 3, second text: got 201 characters, need at most 200."),
    ],
)
def test_error_in_a_list_names_and_selects_its_line(page, line, message):
    score_list(page, ["no signal | no bars", "", line, "no signal | no bars"])
    expect_error(page, "#lines", message)
    assert selected_line(page, "#lines") == line


@needs_chromium
def test_error_in_a_later_request_is_at_its_line(browser, scorer):
    with served(create_app(Settings(max_pairs=2, max_characters=200), scorer)) as url, opened(browser, url) as page:
        score_list(page, [*["no signal | no bars"] * 4, f"{'a' * 201} | b"])
        expect_error(page, "#lines", "Line 5, first text: got 201 characters, need at most 200.")


@needs_chromium
def test_error_in_texts_with_each_other_is_at_its_line(page):
    score_texts(page, ["no signal", "", "no bars", "a" * 201])
    expect_error(page, "#each", "Line 4: got 201 characters, need at most 200.")


@needs_chromium
def test_error_disappears_once_the_field_is_edited(page):
    score_list(page, ["only one text"])
    expect(page.locator("#error")).to_be_visible()
    page.keyboard.press("End")
    page.keyboard.type(" | another")
    expect(page.locator("#error")).to_be_hidden()
    assert page.locator("[aria-invalid], [aria-describedby=error]").count() == 0


@needs_chromium
@pytest.mark.parametrize(
    ("status", "message"),
    [
        (429, "The server is busy. Try again in 7 s."),
        (503, "The server is not ready: the server is shutting down. Try again in 7 s."),
    ],
)
def test_busy_server_says_when_to_try_again(page, status, message):
    error = {"error": {"type": "busy", "message": "the server is shutting down", "param": None}}
    page.route(f"**{SIMILARITY}", lambda route: route.fulfill(status=status, json=error, headers={"retry-after": "7"}))
    page.locator("#examples button").first.click()
    expect(page.locator("#error")).to_have_text(message)


@needs_chromium
def test_server_that_does_not_respond_is_said_to(page):
    page.route(f"**{SIMILARITY}", lambda route: route.abort())
    page.locator("#examples button").first.click()
    expect(page.locator("#error")).to_have_text("The server did not respond.")


@needs_chromium
def test_bundle_that_was_replaced_is_described_again(browser, url, bundle):
    context = browser.new_context()
    page = context.new_page()
    described = httpx2.get(f"{url}/v1/bundle").json()
    page.route("**/v1/bundle", lambda route: route.fulfill(json=described | {"digest": "0" * 64}), times=1)
    page.goto(url)
    expect(page.locator("#served")).to_contain_text("000000000000")
    page.locator("#examples button").first.click()
    expect(page.locator(".gauge")).to_be_visible()
    expect(page.locator("#served")).to_contain_text(bundle.manifest.digest[:12])
    context.close()


ATTACK = "<img src=x onerror=\"document.title='broken'\">"


@needs_chromium
def test_text_of_a_list_is_never_markup(page):
    score_list(page, [f"{ATTACK}\tcold water"])
    expect(page.locator("tbody td:nth-last-child(2)")).to_have_text(ATTACK)
    assert page.title() == "Simile"


@needs_chromium
def test_text_of_a_heat_map_is_never_markup(page):
    score_texts(page, [ATTACK, "cold water"])
    expect(page.locator(".detail p").nth(1)).to_have_text(f"1 {ATTACK}")
    assert page.title() == "Simile"


@needs_chromium
@pytest.mark.parametrize("width", [320, 360, 1280])
def test_page_fits_the_screen(browser, url, width):
    with opened(browser, url, viewport={"width": width, "height": 800}) as page:
        page.locator("#examples button").nth(1).click()
        expect(page.locator(".gauge")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.locator("input[value=list]").check()
        page.locator("#compare").click()
        expect(page.locator("table")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        score_texts(page, [f"text {number}" for number in range(30)])
        expect(page.locator(".heat")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@needs_chromium
def test_key_is_requested_if_one_is_needed_and_never_shown(browser, scorer):
    with served(create_app(Settings(api_keys=(KEY,)), scorer)) as url, opened(browser, url) as page:
        page.locator("#examples button").first.click()
        expect_error(page, "#key", "This service needs one of its API keys.")
        page.locator("#key").fill(KEY)
        page.locator("#compare").click()
        expect(page.locator(".gauge")).to_be_visible()
        assert "$SIMILE_API_KEY" in page.locator("#curl").inner_text()
        assert KEY not in page.locator("body").inner_text()


@needs_chromium
def test_api_page_shows_every_operation_and_documented_field(browser, url):
    with opened(browser, f"{url}/docs") as page:
        expect(page.locator("section").first).to_be_visible()
        api = httpx2.get(f"{url}/openapi.json").json()
        operations = [f"{method.upper()} {path}" for path, methods in api["paths"].items() for method in methods]
        assert texts_of(page, "h2") == operations
        for schema in api["components"]["schemas"].values():
            for name in schema.get("properties", {}):
                if "description" in schema["properties"][name] and schema["title"].endswith(("Request", "Response")):
                    expect(page.locator("td code", has_text=re.compile(f"^{name}$")).first).to_be_visible()


@needs_chromium
def test_every_command_of_the_api_page_works(browser, url):
    with opened(browser, f"{url}/docs") as page:
        expect(page.locator("section").first).to_be_visible()
        calls = [text for text in texts_of(page, "pre") if text.startswith("curl")]
        assert page.locator("section", has_not=page.locator("pre")).count() == 0
    assert len(calls) > 10
    for call in calls:
        done = subprocess.run(["sh", "-c", f"{call} --fail"], capture_output=True, text=True, check=False)
        # The bundle has a lexical member, which has no embeddings.
        assert done.returncode == (22 if "v1/embeddings" in call else 0), done.stderr


@needs_chromium
def test_commands_of_the_api_page_send_a_key_if_one_is_needed(browser, scorer):
    with served(create_app(Settings(api_keys=(KEY,)), scorer)) as url, opened(browser, f"{url}/docs") as page:
        expect(page.locator("section").first).to_be_visible()
        calls = [text for text in texts_of(page, "pre") if text.startswith("curl")]
    keyless = [call for call in calls if "$SIMILE_API_KEY" not in call]
    paths = [call.rstrip("'").partition(url)[2] for call in keyless]
    assert sorted(paths) == ["/health", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"]
    assert any(f"{url}/v2/models/NAME/versions/VERSION/infer'" in call for call in calls)


@needs_chromium
@pytest.mark.parametrize("width", [320, 1280])
def test_api_page_fits_the_screen(browser, url, width):
    with opened(browser, f"{url}/docs", viewport={"width": width, "height": 800}) as page:
        expect(page.locator("section").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_page_loads_nothing_from_other_servers(client):
    for path in PATHS:
        answer = client.get(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "//" not in policy
        assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in answer.text


def test_page_itself_needs_no_key(scorer):
    with TestClient(create_app(Settings(api_keys=(KEY,)), scorer)) as client:
        assert [client.get(path).status_code for path in PATHS] == [200] * len(PATHS)

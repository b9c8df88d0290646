import json
import re
import shutil
import subprocess
from contextlib import contextmanager

import httpx2
import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import expect, sync_playwright

from serving.app import create_app
from serving.settings import Settings
from tests.live_servers import served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
KEY = "planted-key-1234"
FILES = ("/", "/docs", "/page.css", "/page.js", "/docs.js", "/shared.js")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no chromium, chromium-browser or google-chrome on the path")


@pytest.fixture(scope="module")
def url(scorer):
    with served(create_app(Settings(max_characters=200), scorer)) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, url):
    """The page; the test fails if it logs an error or requests another origin."""
    with opened(browser, url) as page:
        yield page


@contextmanager
def opened(browser, url, **options):
    context = browser.new_context(**options)
    page = context.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text) if "Content Security" in message.text else None)
    origin = "/".join(url.split("/")[:3])
    page.on("request", lambda request: troubles.append(request.url) if not request.url.startswith(origin) else None)
    page.goto(url)
    yield page
    context.close()
    assert [trouble for trouble in troubles if not trouble.startswith("data:")] == []


def texts_of(page, selector) -> list[str]:
    return page.locator(selector).all_inner_texts()


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
    assert f"{100 * probability:.0f} %" in page.locator(".facts").first.inner_text()


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
    page.locator("input[value=list]").check()
    page.locator("#lines").fill("no signal\tno bars\n\nThe water was cold. | A cold drink of water.\n")
    page.locator("#compare").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    score_P = scorer.score([("no signal", "no bars"), ("The water was cold.", "A cold drink of water.")])
    assert texts_of(page, "tbody td:first-child") == [f"{score:.3f}" for score in score_P]
    page.locator("#lines").fill("only one text")
    page.locator("#compare").click()
    expect(page.locator("#error")).to_contain_text("Line 1: got 1 text(s), need two")
    assert page.locator("#result").is_hidden()


@needs_chromium
def test_example_is_one_click_away(page):
    page.locator("#examples button").first.click()
    expect(page.locator(".gauge")).to_be_visible()
    assert page.locator("#text-a").input_value()


@needs_chromium
def test_error_of_the_server_is_shown_with_its_place(page):
    page.locator("#text-a").fill("a" * 201)
    page.locator("#text-b").fill("b")
    page.locator("#compare").click()
    expect(page.locator("#error")).to_have_text("pairs[0].text_a: got 201 characters, need at most 200")


@needs_chromium
def test_text_is_never_markup(page):
    attack = "<img src=x onerror=\"document.title='broken'\">"
    page.locator("input[value=list]").check()
    page.locator("#lines").fill(f"{attack}\tcold water")
    page.locator("#compare").click()
    expect(page.locator("tbody td:nth-last-child(2)")).to_have_text(attack)
    assert page.title() == "Simile"


@needs_chromium
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_page_fits_the_screen(browser, url, width):
    with opened(browser, url, viewport={"width": width, "height": 800}) as page:
        page.locator("#examples button").nth(1).click()
        expect(page.locator(".gauge")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.locator("input[value=list]").check()
        page.locator("#compare").click()
        expect(page.locator("table")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@needs_chromium
def test_key_is_requested_if_one_is_needed_and_never_shown(browser, scorer):
    with served(create_app(Settings(api_keys=(KEY,)), scorer)) as url, opened(browser, url) as page:
        page.locator("#examples button").first.click()
        expect(page.locator("#error")).to_contain_text("API keys")
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
    for path in FILES:
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
        assert [client.get(path).status_code for path in FILES] == [200] * len(FILES)

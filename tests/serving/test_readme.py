"""The calls that README, docs/serving.md and OpenAPI show, made with the real curl."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from serving.app import create_app
from serving.settings import Settings
from tests.live_servers import served
from tests.serving.clients import fill

ROOT = Path(__file__).parents[2]
PAGES = [(ROOT / name).read_text() for name in ("README.md", "docs/serving.md")]
ADDRESS = "localhost:8080"
JSON = "-H 'content-type: application/json'"
needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="no curl on the path")


def calls() -> list[tuple[str, object]]:
    """Return every command of the pages that begins with curl, and the answer that is shown after it."""
    pattern = r"^```\n(curl [^`]*)\n```\n[^`]*```json\n([^`]*)\n```$"
    shown = [call for page in PAGES for call in re.findall(pattern, page, re.M)]
    return [(command, json.loads(answer)) for command, answer in shown]


def shape(value: object) -> object:
    """Return the answer's names, types and lengths in place of its values."""
    if isinstance(value, dict):
        return {name: shape(of) for name, of in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"[0-9a-f]{64}$", "DIGEST", value.partition("@")[2])
    return type(value)


def ask(command: str) -> tuple[int, object]:
    """Run the command and return the status and the body of its response."""
    with_status = f"{command} -w '\\n%{{http_code}}'"
    done = subprocess.run(["sh", "-c", with_status], capture_output=True, text=True, check=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


def test_every_curl_of_the_pages_is_checked():
    assert all("curl -" in page for page in PAGES)
    assert len(calls()) == sum(page.count("curl -") for page in PAGES)


@needs_curl
def test_calls_of_the_pages_are_answered_as_they_show(scorer):
    with served(create_app(Settings(), scorer)) as url:
        for command, shown in calls():
            assert ADDRESS in command
            status, answer = ask(command.replace(ADDRESS, url.removeprefix("http://")))
            assert (status, shape(answer)) == (200, shape(shown))


@needs_curl
def test_examples_of_openapi_are_answered_as_it_says(alone):
    with served(create_app(Settings(), alone)) as url:
        _, api = ask(f"curl -s {url}/openapi.json")
        schemas = api["components"]["schemas"]

        def resolved(content):
            schema = content["content"]["application/json"]["schema"]
            # The example of a call with several forms is of the first one.
            schema = schema.get("anyOf", [schema])[0]
            return schemas[schema["$ref"].split("/")[-1]] if "$ref" in schema else schema

        num_calls = 0
        for path, methods in api["paths"].items():
            for method, operation in methods.items():
                examples = resolved(operation["requestBody"])["examples"] if method == "post" else [None]
                for example in examples:
                    data = (
                        ""
                        if example is None
                        else f" -H 'content-type: application/json' -d {shlex.quote(json.dumps(example))}"
                    )
                    status, answer = ask(f"curl -s {url}{fill(path, alone)}{data}")
                    schema = resolved(operation["responses"]["200"])
                    assert status == 200, answer
                    if schema["type"] == "object":
                        assert set(schema["required"]) <= set(answer) <= set(schema["properties"])
                    else:
                        assert (schema["type"], type(answer)) == ("array", list)
                    num_calls += 1
    assert num_calls > len(api["paths"])

import asyncio

import pytest

from serving.app import create_app
from serving.settings import Settings
from simile import AsyncClient, Client
from simile.scoring import GOLDEN_PAIRS
from tests.live_servers import Watched, served


@pytest.fixture
def pairs() -> list[tuple[str, str]]:
    """Fifty distinct pairs, most of known words and two with other characters."""
    texts = [text for pair in GOLDEN_PAIRS for text in pair]
    made = [(texts[i % len(texts)], texts[(7 * i + i // len(texts) + 1) % len(texts)]) for i in range(48)]
    return [*made, ("Zürich “quoted” \\ \n 名前 🙂", texts[0]), (texts[1], "\x00 <tab>\t")]


@pytest.fixture
def server(scorer):
    """The address of the application on a socket with small limits, and the `Watched` that records its requests."""
    app = Watched(create_app(Settings(max_pairs=8, max_characters=200, max_body_bytes=1500), scorer))
    with served(app) as url:
        yield url, app


def ask_blocking(url, method, *args, options=None, **keywords):
    with Client(url, **(options or {})) as client:
        return getattr(client, method)(*args, **keywords)


def ask_awaiting(url, method, *args, options=None, **keywords):
    async def scenario():
        async with AsyncClient(url, **(options or {})) as client:
            return await getattr(client, method)(*args, **keywords)

    return asyncio.run(scenario())


@pytest.fixture(params=[ask_blocking, ask_awaiting], ids=["sync", "async"])
def ask(request):
    """A function that calls one method of a new client: ``ask(url, "score", pairs, options={"retries": 0})``."""
    return request.param

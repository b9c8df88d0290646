"""The service in the process of a test, on real sockets."""

import asyncio
import socket
from contextlib import asynccontextmanager

import httpx2

from serving.app import create_app
from serving.server import listening, serve
from serving.settings import Settings

BODY = {"pairs": [["The water was cold.", "A cold drink of water."]]}


@asynccontextmanager
async def running(scorer, *, num_buffered: int = 0, **options):
    """Yield a client that is connected already, and a function that opens another connection.

    Args:
        scorer: the scorer to serve.
        num_buffered: bytes of a response that the kernel buffers before the client reads them.
        options: the settings.
    """
    settings = Settings(port=0, **options)
    with listening(settings) as listener:
        if num_buffered:
            # Connections inherit the option.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, num_buffered)
        app = create_app(settings, scorer)
        serving = asyncio.create_task(serve(app, listener))
        port = listener.getsockname()[1]
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.01)
            yield client, lambda: asyncio.open_connection("127.0.0.1", port)
        app.state.service.stop()
        async with asyncio.timeout(20):
            await serving


async def is_served(client) -> bool:
    return (await client.post("/v1/similarity", json=BODY)).status_code == 200

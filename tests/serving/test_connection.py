"""How the service's connections use their transport."""

import asyncio

from serving.connection import JoinedWrites


class Recorded:
    """A transport that records its calls."""

    def __init__(self):
        self.done = []

    def write(self, data):
        self.done.append(data)

    def close(self):
        self.done.append("close")

    def is_closing(self):
        return "close" in self.done


def test_writes_of_one_loop_iteration_are_joined():
    async def scenario():
        transport = Recorded()
        joined = JoinedWrites(transport, asyncio.get_running_loop(), lambda: None)
        joined.write(b"head ")
        joined.write(b"body")
        assert transport.done == []
        await asyncio.sleep(0)
        joined.write(b"another")
        await asyncio.sleep(0)
        return transport.done

    assert asyncio.run(scenario()) == [b"head body", b"another"]


def test_close_flushes_pending_writes_first():
    async def scenario():
        transport = Recorded()
        joined = JoinedWrites(transport, asyncio.get_running_loop(), lambda: None)
        joined.write(b"head ")
        joined.write(b"body")
        joined.close()
        await asyncio.sleep(0)
        assert joined.is_closing()
        return transport.done

    assert asyncio.run(scenario()) == [b"head body", "close"]

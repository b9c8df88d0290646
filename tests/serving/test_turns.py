"""Work that takes time is spread over the iterations of the event loop."""

import asyncio

from serving.turns import Turns

KIB = 1024


async def begun_per_iteration(turns, costs) -> list[int]:
    """Announce work of these costs; return how many of them begin in each iteration of the event loop."""
    waiting = [turns.next(cost) for cost in costs]
    counts = []
    while sum(counts) < len(costs):
        counts.append(sum(turn.done() for turn in waiting) - sum(counts))
        await asyncio.sleep(0)
    return counts


def test_little_work_begins_at_once():
    assert asyncio.run(begun_per_iteration(Turns(), [2 * KIB] * 16)) == [16]


def test_much_work_is_spread_over_iterations():
    costs = [2 * KIB] * 20 + [1024 * KIB] * 3 + [2 * KIB] * 16
    assert [count for count in asyncio.run(begun_per_iteration(Turns(), costs)) if count] == [16, 5, 1, 1, 16]


def test_turns_keep_the_order_of_arrival():
    async def scenario():
        turns, order = Turns(), []

        async def work(number):
            await turns.next(20 * KIB)
            order.append(number)

        await asyncio.gather(*map(work, range(30)))
        return order

    assert asyncio.run(scenario()) == list(range(30))


def test_work_that_is_given_up_takes_no_turn():
    async def scenario():
        turns = Turns()
        first, given_up, last = (turns.next(1024 * KIB) for _ in range(3))
        given_up.cancel()
        await asyncio.sleep(0)
        assert first.done()
        assert last.done()
        # Nothing is left to do in later iterations.
        for _ in range(3):
            await asyncio.sleep(0)
        return turns.next(KIB).done()

    assert asyncio.run(scenario())

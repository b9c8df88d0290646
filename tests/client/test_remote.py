"""The part that both clients share, over a wire whose responses and clock belong to the test."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simile.client.answers import Answer
from simile.client.exchange import Exchange, backoff_s, retry_after_s
from simile.client.remote import SERVER, Remote, encode_pairs, split
from simile.errors import InputError, ServerRefusedError, ServerUnavailableError

NOW = "Wed, 21 Oct 2026 07:28:00 GMT"
DESCRIBED = {"name": "b", "digest": "0", "members": [], "calibration": None, "limits": {}}
SCORED = Answer(
    200,
    {},
    json.dumps(
        {"scores": [0.5], "usage": {"pairs": 1, "texts": 2, "tokens": 3, "truncated": 0}, "bundle": "b"}
    ).encode(),
)


def described(**limits) -> Answer:
    return Answer(
        200, {}, json.dumps({**DESCRIBED, "limits": {"max_pairs": 8, "max_body_bytes": 999, **limits}}).encode()
    )


def refused(status=503, **headers) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, b"")


class FakeWire:
    """A wire that returns these responses in turn, each after as many seconds; sleeping only advances its clock."""

    def __init__(self, *answers, seconds=0.0) -> None:
        self.answers = iter([described(), *answers])
        self.seconds = seconds
        self.time = 1000.0
        self.sleeps: list[float] = []
        self.timeouts: list[float] = []
        self.bodies: list[bytes | None] = []

    async def send(self, path, body, timeout_s):
        self.timeouts.append(timeout_s)
        self.bodies.append(body)
        answer = next(self.answers)
        if body is not None:
            self.time += self.seconds
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def map(self, function, items):
        return [await function(item) for item in items]

    async def sleep(self, seconds):
        self.sleeps.append(seconds)
        self.time += seconds

    def now(self):
        return self.time


def remote_over(wire, *, timeout_s, retries):
    return Remote(Exchange(wire, "http://server", secret=None, timeout_s=timeout_s, retries=retries, server=SERVER))


def ask(wire, *, timeout_s=30.0, retries=5, pairs=(("a", "b"),)):
    remote = remote_over(wire, timeout_s=timeout_s, retries=retries)
    return asyncio.run(remote.similarity(pairs, members=False, on_progress=None)).scores.tolist()


def test_server_that_says_how_long_to_wait_is_waited_for_as_long():
    later = "Wed, 21 Oct 2026 07:28:09 GMT"
    wire = FakeWire(refused(429, retry_after="3"), refused(503, retry_after=later, date=NOW), SCORED)
    assert ask(wire) == [0.5]
    assert wire.sleeps == [3, 9]


def test_server_that_does_not_say_is_waited_for_longer_and_longer():
    wire = FakeWire(*[refused()] * 9, SCORED)
    assert ask(wire, timeout_s=1000, retries=9) == [0.5]
    longest = [0.25, 0.5, 1, 2, 4, 8, 8, 8, 8]
    assert len(wire.sleeps) == 9
    assert all(most / 2 <= slept <= most for slept, most in zip(wire.sleeps, longest, strict=True))


def test_waits_differ_from_client_to_client():
    assert len({backoff_s(1) for _ in range(10)}) == 10
    assert backoff_s(10_000) <= 8


def test_broken_connection_is_tried_again_after_a_wait():
    wire = FakeWire(ConnectionError("refused"), SCORED)
    assert ask(wire) == [0.5]
    assert len(wire.sleeps) == 1


def test_retries_are_as_many_as_asked_for():
    wire = FakeWire(*[refused(retry_after="0")] * 9)
    with pytest.raises(ServerUnavailableError, match="tried 4 times"):
        ask(wire, retries=3)
    assert wire.sleeps == [0, 0, 0]


def test_first_attempt_is_the_only_one_without_retries():
    wire = FakeWire(refused(retry_after="0"))
    with pytest.raises(ServerUnavailableError, match="503 service_unavailable") as caught:
        ask(wire, retries=0)
    assert "tried" not in str(caught.value)
    assert wire.sleeps == []


@pytest.mark.parametrize("wait", ["30", "31", "9" * 500])
def test_wait_beyond_the_deadline_is_not_begun(wait):
    wire = FakeWire(refused(429, retry_after=wait))
    with pytest.raises(ServerUnavailableError, match="429 too_many_requests"):
        ask(wire, timeout_s=30)
    assert wire.sleeps == []


def test_attempts_and_waits_share_one_deadline():
    wire = FakeWire(*[refused(retry_after="6")] * 9, seconds=4)
    with pytest.raises(ServerUnavailableError, match="tried 3 times"):
        ask(wire, timeout_s=30, retries=100)
    # The first is that for the limits. A third wait would leave nothing of 30 seconds.
    assert wire.timeouts == [30, 30, 20, 10]
    assert wire.sleeps == [6, 6]


def test_timeout_is_not_tried_again():
    wire = FakeWire(TimeoutError())
    with pytest.raises(ServerUnavailableError, match=r"http://server/v1/similarity: timeout: no response within 30 s"):
        ask(wire)
    assert wire.sleeps == []


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "120"}, 120),
        ({"retry-after": "Wed, 21 Oct 2026 07:29:30 GMT", "date": NOW}, 90),
        ({"retry-after": "Wed, 21 Oct 2026 09:29:30 +0200", "date": NOW}, 90),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT", "date": NOW}, 0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": ""}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:29:30 -0000", "date": NOW}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:29:30 GMT", "date": "yesterday"}, None),
    ],
)
def test_wait_is_read_as_seconds_or_as_a_date(headers, seconds):
    assert retry_after_s(headers) == seconds


def test_limits_are_asked_for_once_and_again_after_a_refusal():
    wire = FakeWire(SCORED, SCORED, refused(413), described(max_pairs=4), SCORED, refused(413), described(max_pairs=4))
    remote = remote_over(wire, timeout_s=30, retries=0)

    async def scenario():
        # The third call is repeated by the new limits; the last one would be refused again.
        for expected in (None, None, None, ServerRefusedError):
            try:
                await remote.similarity([("a", "b")], members=False, on_progress=None)
            except ServerRefusedError:
                assert expected
            else:
                assert expected is None

    asyncio.run(scenario())
    assert [body is None for body in wire.bodies] == [True, False, False, False, True, False, False, True]


# Splitting.


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 7), st.integers(40, 120))
def test_parts_hold_all_pairs_in_order_within_the_limits_and_none_could_hold_one_more(sizes, max_pairs, max_bytes):
    parts = list(split(sizes, max_pairs, max_bytes, max_bytes))
    assert [i for part in parts for i in part] == list(range(len(sizes)))

    def fits(pairs):
        return len(pairs) <= max_pairs and len(b",".join(b"x" * sizes[i] for i in pairs)) <= max_bytes

    assert all(part and fits(part) for part in parts)
    assert not any(fits(range(part.start, part.stop + 1)) for part in parts[:-1])


def test_part_is_never_larger_than_what_a_server_computes_at_once():
    assert [len(part) for part in split([1] * 600, 1024, 10**6, 10**6)] == [256, 256, 88]


def test_pair_beyond_the_limit_is_named():
    with pytest.raises(InputError, match=r"pairs\[1\]: got 11 bytes as JSON, need at most 10"):
        list(split([10, 11], 8, 10, 10))


def test_body_is_the_pairs_as_json():
    wire = FakeWire(SCORED)
    ask(wire, pairs=[['Zürich "\\ \n', "🙂 名前"]])
    assert json.loads(wire.bodies[1]) == {"pairs": [['Zürich "\\ \n', "🙂 名前"]]}


@pytest.mark.parametrize(
    ("pair", "got"),
    [
        ("ab", "got str, need two strings"),
        (("secret",), "got 1 elements, need two strings"),
        (("secret", "b", "c"), "got 3 elements, need two strings"),
        (None, "got NoneType, need two strings"),
    ],
)
def test_what_is_no_pair_is_named_by_its_place_and_not_repeated(pair, got):
    with pytest.raises(InputError, match=rf"^pairs\[1\]: {got}") as caught:
        encode_pairs([("a", "b"), pair])
    assert "secret" not in str(caught.value)

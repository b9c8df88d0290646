"""Which of the connections that wait for their clients are closed."""

import resource

import pytest

from serving.waiting import WaitingConnections, most_connections

LIGHT, HEAVY = 1000, 100_000


class Connection:
    is_closed = False

    def abort(self):
        self.is_closed = True


@pytest.fixture
def connections():
    return [Connection() for _ in range(4)]


def closed(connections):
    return [i for i, connection in enumerate(connections) if connection.is_closed]


def test_the_first_of_too_many_connections_is_closed(connections):
    waiting = WaitingConnections(max_connections=2)
    for connection in connections:
        waiting.add(connection)
    assert closed(connections) == [0, 1]


def test_new_connections_are_closed_before_connections_that_had_a_response(connections):
    waiting = WaitingConnections(max_connections=2)
    waiting.add(connections[0], is_new=False)
    waiting.add(connections[1])
    waiting.add(connections[2])
    assert closed(connections) == [1]
    waiting.remove(connections[2])
    for connection in connections[2:]:
        waiting.add(connection, is_new=False)
    assert closed(connections) == [0, 1]


def test_a_connection_that_waits_anew_is_the_last(connections):
    waiting = WaitingConnections(max_connections=3)
    for connection in connections[:3]:
        waiting.add(connection)
    waiting.add(connections[0])
    waiting.remove(connections[0])
    waiting.add(connections[0])
    waiting.add(connections[3])
    assert closed(connections) == [1]


def test_the_first_large_connection_is_closed_where_all_hold_too_much(connections):
    waiting = WaitingConnections(max_connections=10, max_bytes=2 * HEAVY)
    for connection, num_bytes in zip(connections, (LIGHT, HEAVY, HEAVY, HEAVY), strict=True):
        waiting.add(connection)
        waiting.hold(connection, num_bytes)
    assert closed(connections) == [1]


def test_bytes_that_a_connection_has_given_back_do_not_count(connections):
    waiting = WaitingConnections(max_connections=10, max_bytes=2 * HEAVY)
    for connection in connections:
        waiting.add(connection)
        waiting.hold(connection, HEAVY)
        waiting.hold(connection, LIGHT)
    for connection in connections[:3]:
        waiting.hold(connection, HEAVY)
        waiting.remove(connection)
    assert closed(connections) == []


def test_a_connection_that_does_not_wait_holds_nothing(connections):
    waiting = WaitingConnections(max_connections=10, max_bytes=HEAVY)
    waiting.hold(connections[0], 2 * HEAVY)
    waiting.add(connections[1])
    waiting.hold(connections[1], HEAVY)
    assert closed(connections) == []


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [(1024, 1024, 768), (64, 64, 16), (1024, 2**20, 4096), (2**20, 2**20, 4096), (256, resource.RLIM_INFINITY, 4096)],
)
def test_connections_leave_files_for_everything_else(monkeypatch, soft, hard, expected):
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.append(new))
    assert most_connections() == expected
    assert limits[-1][0] >= min(expected + 256, hard if hard > 0 else expected + 256)
    assert limits[-1][0] >= soft

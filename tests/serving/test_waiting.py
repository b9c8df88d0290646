"""Which of the connections that wait for their clients are closed."""

import resource

import pytest

from serving.waiting import Waiting, most_connections

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
    waiting = Waiting(max_connections=2)
    for connection in connections:
        waiting.add(connection)
    assert closed(connections) == [0, 1]


def test_strangers_are_closed_before_connections_that_had_a_response(connections):
    waiting = Waiting(max_connections=2)
    waiting.add(connections[0], is_stranger=False)
    waiting.add(connections[1])
    waiting.add(connections[2])
    assert closed(connections) == [1]
    waiting.remove(connections[2])
    for connection in connections[2:]:
        waiting.add(connection, is_stranger=False)
    assert closed(connections) == [0, 1]


def test_a_connection_that_waits_anew_is_the_last(connections):
    waiting = Waiting(max_connections=3)
    for connection in connections[:3]:
        waiting.add(connection)
    waiting.add(connections[0])
    waiting.remove(connections[0])
    waiting.add(connections[0])
    waiting.add(connections[3])
    assert closed(connections) == [1]


def test_the_first_heavy_connection_is_closed_where_all_hold_too_much(connections):
    waiting = Waiting(max_connections=10, max_bytes=2 * HEAVY)
    for connection, num_bytes in zip(connections, (LIGHT, HEAVY, HEAVY, HEAVY), strict=True):
        waiting.add(connection)
        waiting.hold(connection, num_bytes)
    assert closed(connections) == [1]


def test_bytes_that_a_connection_has_given_back_do_not_count(connections):
    waiting = Waiting(max_connections=10, max_bytes=2 * HEAVY)
    for connection in connections:
        waiting.add(connection)
        waiting.hold(connection, HEAVY)
        waiting.hold(connection, LIGHT)
    for connection in connections[:3]:
        waiting.hold(connection, HEAVY)
        waiting.remove(connection)
    assert closed(connections) == []


def test_a_connection_that_does_not_wait_holds_nothing(connections):
    waiting = Waiting(max_connections=10, max_bytes=HEAVY)
    waiting.hold(connections[0], 2 * HEAVY)
    waiting.add(connections[1])
    waiting.hold(connections[1], HEAVY)
    assert closed(connections) == []


def test_some_file_descriptors_are_left_for_everything_else():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = most_connections()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert soft >= before[0]
    assert most == max(soft - 256, soft // 4)

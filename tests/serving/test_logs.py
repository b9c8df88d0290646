"""What the service's log leaves out."""

import logging

import pytest

from serving import logs
from serving.logs import LimitedHandler


@pytest.fixture
def log(monkeypatch):
    """Yields a logger, a function that returns its lines, and a function that sets the time in seconds."""
    handler, lines, now = LimitedHandler(), [], [100.0]
    monkeypatch.setattr(logs, "monotonic", lambda: now[0])
    monkeypatch.setattr(logging.StreamHandler, "emit", lambda _self, record: lines.append(record.getMessage()))
    logger = logging.Logger("serving.middleware")
    logger.addHandler(handler)
    return logger, lines, lambda seconds: now.__setitem__(0, seconds)


def note(logger, status, **facts):
    logger.info("request", extra={"fields": {"status": status, **facts}})


def test_answered_requests_with_a_key_are_always_logged(log):
    logger, lines, _ = log
    for _ in range(200):
        note(logger, 200, key="team")
    assert len(lines) == 200


def test_answered_requests_of_anybody_are_limited_beside_the_faults(log):
    logger, lines, set_time = log
    for _ in range(100):
        note(logger, 200)
        note(logger, 404)
    assert len(lines) == 90
    set_time(101.0)
    note(logger, 200)
    assert sorted(lines[90:]) == [
        "50 messages about refused requests and their faults were left out",
        "60 messages about answered requests without a key were left out",
        "request",
    ]


@pytest.mark.parametrize("write", [lambda logger: note(logger, 401), lambda logger: logger.warning("request")])
def test_refused_requests_and_warnings_are_limited_and_counted(log, write):
    logger, lines, set_time = log
    for _ in range(80):
        write(logger)
    assert len(lines) == 50
    set_time(101.0)
    write(logger)
    assert lines[50:] == ["30 messages about refused requests and their faults were left out", "request"]


def test_no_second_has_more_lines(log):
    logger, lines, set_time = log
    counts = []
    for hundredth in range(300):
        set_time(100.9 + hundredth / 100)
        for _ in range(5):
            note(logger, 200)
            note(logger, 404)
        counts.append(len(lines))
    assert max(after - before for before, after in zip([0] * 100 + counts, counts, strict=False)) <= 92


def test_other_faults_are_always_logged(log):
    logger, lines, _ = log
    for _ in range(80):
        note(logger, 404)
    other = logging.Logger("serving.service")
    other.addHandler(logger.handlers[0])
    other.error("bundle not replaced")
    assert lines[-1] == "bundle not replaced"


def test_a_traceback_counts_for_its_lines(log):
    logger, lines, _ = log
    for _ in range(50):
        try:
            raise ValueError("broken")
        except ValueError:
            logger.exception("fault")
    assert 5 <= len(lines) <= 25


def test_a_line_that_cannot_be_written_is_counted(capsys):
    handler = LimitedHandler()
    handler.format = lambda _record: 1 / 0
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.error("fault")
    assert capsys.readouterr().err == ""
    assert handler._num_left_out.total() == 1

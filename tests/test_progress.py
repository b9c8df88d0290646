import io
import os
import pty
import re
import termios
import time
from contextlib import redirect_stderr

import pytest

from simile.progress import Progress, duration, rate, say


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0.0 s"),
        (8.24, "8.2 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_duration_is_as_a_person_says_it(seconds, expected):
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("per_second", "expected"),
    [(0.42, "0.4"), (9.94, "9.9"), (9.96, "10"), (1234, "1,234"), (9960, "10k"), (81_400, "81k"), (3.1e7, "31M")],
)
def test_rate_is_short(per_second, expected):
    assert rate(per_second) == expected


def test_rate_is_told_of_work_that_takes_a_second(capsys):
    with Progress("scoring", 100, "texts") as progress:
        progress.advance(50)
        time.sleep(1.05)
        progress.advance(50)
    first, *_, last = capsys.readouterr().err.splitlines()
    assert "/s" not in first
    assert re.fullmatch(r"scoring +100%  100/100 texts  9\d/s  1\.\d s", last)


def test_work_of_unknown_length_has_neither_share_nor_time_left(capsys):
    with Progress("reading", None, "documents") as progress:
        progress.advance(12_345)
    assert re.fullmatch(r"reading +12,345 documents  \d\.\d s", capsys.readouterr().err.splitlines()[-1])


def test_say_writes_a_line_to_stderr(capsys):
    say("hello")
    assert capsys.readouterr() == ("", "hello\n")


def test_elsewhere_than_on_a_terminal_quick_work_takes_two_lines_of_stderr(capsys):
    with Progress("scoring", 1000, "texts") as progress:
        for _ in range(1000):
            progress.advance()
    out, err = capsys.readouterr()
    assert out == ""
    first, last = err.splitlines()
    assert re.fullmatch(r"scoring +0%  0/1,000 texts  0\.0 s", first)
    assert re.fullmatch(r"scoring +100%  1,000/1,000 texts  \d+\.\d s", last)


def test_note_stands_beside_the_figures(capsys):
    with Progress("mining", 2, "documents") as progress:
        progress.advance(2, note="dev-seen")
    assert capsys.readouterr().err.splitlines()[-1].endswith("  dev-seen")


def test_work_that_fails_shows_how_far_it_came(capsys):
    def work():
        with Progress("scoring", 10, "texts") as progress:
            progress.advance(4)
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        work()
    assert " 40%  4/10 texts  " in capsys.readouterr().err.splitlines()[-1]


def test_no_work_at_all_is_done(capsys):
    with Progress("scoring", 0, "texts"):
        pass
    assert "100%  0/0 texts" in capsys.readouterr().err


def test_on_a_terminal_one_line_is_drawn_over_and_then_ended():
    terminal = Terminal()
    with redirect_stderr(terminal), Progress("scoring", 4, "texts") as progress:
        time.sleep(0.11)
        progress.advance(2)
    drawn = terminal.getvalue()
    assert drawn.endswith("\n")
    assert drawn.count("\n") == 1
    frames = drawn.rstrip("\n").split("\r\x1b[2K")[1:]
    assert [re.search(r"[█░]+", frame)[0] for frame in frames] == ["░" * 24, *2 * ["█" * 12 + "░" * 12]]
    assert frames[1].endswith(" s left")


def drawn_on(columns):
    """What work with a long note leaves on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    drawn = b""
    with open(theirs, "w", encoding="utf-8") as stream, redirect_stderr(stream):
        with Progress("training", 20, "steps") as progress:
            progress.advance(5, note="loss 4.991, dev Spearman 0.119")
        while not drawn.endswith(b"\n"):
            drawn += os.read(ours, 10_000)
    os.close(ours)
    return drawn.decode().strip().split("\r\x1b[2K")[-1]


def test_line_is_as_narrow_as_the_terminal():
    whole = r"training {18}█{6}░{18}   25%  5/20 steps  0\.0 s left  loss 4\.991, dev Spearman 0\.119"
    assert re.fullmatch(whole, drawn_on(200))
    assert re.fullmatch(whole, drawn_on(0))
    without_bar = r"training   25%  5/20 steps  0\.0 s left  loss 4\.991, dev Spearman 0\.119"
    assert re.fullmatch(without_bar, drawn_on(80))
    assert len(drawn_on(50)) == 49


def test_steps_skipped_are_done_but_do_not_count_as_fast():
    terminal = Terminal()
    with redirect_stderr(terminal), Progress("training", 100, "steps") as progress:
        progress.skip(98)
        time.sleep(0.2)
        progress.advance(1)
        progress.advance(1)
    frame = terminal.getvalue().split("\r\x1b[2K")[2]
    # One step took 0.2 s and one is left; were the 98 counted, it would be 0.2 s / 99.
    assert "99/100 steps" in frame
    assert float(re.search(r"([\d.]+) s left", frame)[1]) >= 0.2

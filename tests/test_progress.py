import io
import os
import pty
import re
import subprocess
import sys
import termios
import time
from contextlib import redirect_stderr

import pytest

from simile.progress import Progress, duration, rate, say


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """Return the lines that a person sees in the end, by the few control sequences that a bar needs."""
        lines, row = [""], 0
        for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", self.getvalue()):
            if part == "\n":
                row += 1
                lines += [""] * (row == len(lines))
            elif part == "\x1b[1A":
                row -= 1
            elif part == "\x1b[2K":
                lines[row] = ""
            elif not part.startswith(("\x1b", "\r")):
                lines[row] += part
        assert lines.pop() == "", "the line is left to others"
        return [line.rstrip() for line in lines]


@pytest.fixture
def terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    return Terminal()


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
def test_duration_is_in_words(seconds, expected):
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("per_second", "expected"),
    [(0.42, "0.4"), (9.94, "9.9"), (9.96, "10"), (1234, "1,234"), (9960, "10k"), (81_400, "81k"), (3.1e7, "31M")],
)
def test_rate_is_short(per_second, expected):
    assert rate(per_second) == expected


def test_rate_is_shown_once_the_work_took_a_second(capsys):
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


def test_work_beyond_the_total_shows_no_share(capsys):
    with Progress("mining", 100, "pairs") as progress:
        progress.advance(300)
    assert capsys.readouterr().err.splitlines()[-1].split() == ["mining", "300", "pairs", "0.0", "s"]


def test_say_writes_a_line_to_stderr(capsys):
    say("hello")
    assert capsys.readouterr() == ("", "hello\n")


def test_elsewhere_than_on_a_terminal_quick_work_prints_two_lines(capsys):
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


def test_on_a_terminal_one_line_is_redrawn_and_then_ended(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    with redirect_stderr(terminal), Progress("scoring", 4, "texts") as progress:
        time.sleep(0.11)
        progress.advance(2)
        assert terminal.getvalue().count("\n") == 0
        assert re.search(r"\r\x1b\[2K━{12} {13}scoring   50%  2/4 texts  0\.\d s left$", terminal.getvalue())
    (line,) = terminal.screen()
    assert line.startswith("━" * 12 + " " * 13 + "scoring   50%  2/4 texts  ")
    # The cursor is hidden while the bar is shown.
    assert terminal.getvalue().endswith("\n\x1b[?25h")


def test_work_of_unknown_length_has_no_bar(terminal):
    with redirect_stderr(terminal), Progress("reading", None, "documents") as progress:
        progress.advance(12_345)
    assert re.fullmatch(r"reading  12,345 documents  \d\.\d s", *terminal.screen())


@pytest.mark.parametrize("columns", [80, 50, 20])
def test_line_is_as_narrow_as_the_terminal(terminal, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    with redirect_stderr(terminal), Progress("training", 20, "steps") as progress:
        progress.advance(5, note="loss 4.991, dev Spearman 0.119")
    (line,) = terminal.screen()
    whole = "training   25%  5/20 steps  0.0 s left  loss 4.991, dev Spearman 0.119"
    assert line.lstrip("━╸╺ ") == (whole if columns == 80 else f"{whole[: columns - 1]}…")
    assert len(line) <= columns


def test_colours_are_left_out_where_the_user_wants_none(terminal, monkeypatch):
    with redirect_stderr(terminal), Progress("scoring", 4, "texts") as progress:
        progress.advance(2)
    assert "m━" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.truncate(0)
    with redirect_stderr(terminal), Progress("scoring", 4, "texts") as progress:
        progress.advance(2)
    assert not re.search(r"\x1b\[[\d;]*m", terminal.getvalue())


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"])
def test_elsewhere_than_on_a_terminal_there_are_no_control_sequences(capsys, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    with Progress("scoring", 4, "texts") as progress:
        progress.advance(2)
        say("hello")
    assert "\x1b" not in capsys.readouterr().err


def test_terminal_that_cannot_redraw_gets_plain_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with redirect_stderr(terminal), Progress("scoring", 4, "texts") as progress:
        progress.advance(4)
    assert "\x1b" not in terminal.getvalue()
    assert len(terminal.screen()) == 2


BRACKETS = "[/foo] [red]{x}[/red] :smile: %s"


def test_brackets_in_labels_notes_and_messages_are_shown_as_they_are(terminal):
    with redirect_stderr(terminal), Progress(f"scoring {BRACKETS}", 4, "texts") as progress:
        say(f"message {BRACKETS}")
        progress.advance(2, note=f"note {BRACKETS}")
    message, line = terminal.screen()
    assert message == f"message {BRACKETS}"
    assert f"scoring {BRACKETS}" in line
    assert line.endswith(f"note {BRACKETS}")


def test_messages_stand_above_the_bar_and_are_not_wrapped(terminal):
    long = "a long message " * 20
    with redirect_stderr(terminal), Progress("training", 4, "steps") as progress:
        progress.advance(1)
        say("first")
        say(long)
        # As warnings of libraries do.
        sys.stderr.write("second\n")
        progress.advance(3)
    with redirect_stderr(terminal):
        say("last")
    *messages, line, last = terminal.screen()
    assert messages == ["first", long.rstrip(), "second"]
    assert "training  100%  4/4 steps" in line
    assert last == "last"


def test_bars_that_are_shown_at_once_stand_below_each_other(terminal):
    with redirect_stderr(terminal), Progress("outer", 4, "steps") as outer:
        outer.advance(4)
        with Progress("inner", 2, "texts") as inner:
            inner.advance(2)
            say("message")
    message, first, second = terminal.screen()
    assert message == "message"
    assert "inner  100%  2/2 texts" in first
    assert "outer  100%  4/4 steps" in second


def test_results_on_stdout_stay_on_stdout(terminal, capsys):
    with redirect_stderr(terminal), Progress("scoring", 4, "texts"):
        print("0.5")
    assert capsys.readouterr().out == "0.5\n"


def test_width_is_that_of_the_terminal():
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 60))
    program = "from simile.progress import Progress\nwith Progress('training', 9, 'steps') as p: p.advance(9, 'x' * 99)"
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | {"TERM": "xterm"}
    command = [sys.executable, "-c", program]
    subprocess.run(command, stdin=subprocess.DEVNULL, stderr=theirs, env=environment, check=True, timeout=60)
    terminal = Terminal(os.read(ours, 10_000).decode())
    os.close(theirs)
    os.close(ours)
    assert re.fullmatch(r"training  100%  9/9 steps  \d\.\d s  x+…", *terminal.screen())
    assert len(*terminal.screen()) == 60


def test_rich_is_imported_for_a_bar_only():
    program = (
        "import sys; from simile.progress import Progress, say\n"
        "with Progress('scoring', 4, 'texts') as progress: progress.advance(4); say('hello')\n"
        "print('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_skipped_steps_count_as_done_but_not_in_the_time_left(terminal):
    with redirect_stderr(terminal), Progress("training", 100, "steps") as progress:
        progress.skip(98)
        time.sleep(0.2)
        progress.advance(1)
        shown = terminal.getvalue()
    assert "99/100 steps" in shown
    # One step took 0.2 s and one is left; were the 98 counted, it would be 0.2 s / 99.
    assert float(re.findall(r"([\d.]+) s left", shown)[-1]) >= 0.2

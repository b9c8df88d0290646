"""Control characters of names and messages, which must not reach the terminal, wherever they are printed."""

import pytest

from pipeline.cli import main
from pipeline.output import print_lines, text_table
from simile.progress import Progress, say

EVIL = "a\x1b[2Kb\rc\nd\x9be\u202ef\u2066g\u2028h\udce9\x00i\x7fj"
SAFE = r"a\x1b[2Kb\rc\nd\x9be\u202ef\u2066g\u2028h\udce9\x00i\x7fj"
PLAIN = "Größe 大きさ \u200d👩‍💻 \t[x] ½"


@pytest.mark.parametrize(("text", "shown"), [(EVIL, SAFE), (PLAIN, PLAIN)])
def test_lines_messages_and_progress_show_control_characters_as_escapes(text, shown, capsys):
    print_lines(text, text)
    say(text)
    with Progress(text, 1, "texts") as progress:
        progress.advance(1, note=text)
    out, err = capsys.readouterr()
    assert out == f"{shown}\n{shown}\n"
    said, first, last = err.removesuffix("\n").split("\n")
    assert said == shown
    assert first.startswith(shown)
    assert last.endswith(shown)


def test_cell_of_a_table_is_one_line():
    lines = text_table(("set", "pairs"), [(EVIL, "1"), ("other", "2")])
    assert len(lines) == 4
    assert lines[2].startswith(SAFE)


def test_error_shows_the_name_with_escapes(capsys, tmp_path):
    assert main(["inspect", str(tmp_path / EVIL.replace("\x00", ""))]) == 2
    error = capsys.readouterr().err
    # White space within a message is one blank.
    assert r"a\x1b[2Kb c d\x9be\u202ef\u2066g h\udce9i\x7fj: no such bundle" in error
    assert error.count("\n") == 1

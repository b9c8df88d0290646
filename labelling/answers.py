"""The answers of one person to pairs: a journal of JSON lines, in which no acknowledged answer is ever lost."""

import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from simile.artifacts.pairs import LEAST_PROBABILITY
from simile.artifacts.strict import StrictModel
from simile.errors import InputError
from simile.files import sync

Choice = Literal["same", "different", "unsure", "skip", "undone"]
"""What a person said of a pair; ``undone`` takes the last answer to it back."""
Part = Literal["random", "disagreement", "threshold", "audit"]
"""Why a pair was shown: only the ``random`` part represents the sample, and through it the traffic. Pairs of an
``audit`` had a label already."""
LABELS: dict[str, int] = {"same": 1, "different": 0}
"""The label that a choice means; the others mean none."""


class Answer(StrictModel):
    """One line of the journal."""

    pair: str
    """The pair's `SampledPair.key`."""
    text_a: str
    text_b: str
    answer: Choice
    annotator: str
    """Name of the person."""
    time: str
    """When it was given, in ISO 8601 with the time zone."""
    seconds: float | None = Field(default=None, ge=0)
    """How long the pair had been shown."""
    note: str = ""
    part: Part = "random"
    stratum: str | None = None
    inclusion_probability: float = Field(default=1.0, ge=LEAST_PROBABILITY, le=1)


def append_answer(path: Path, answer: Answer) -> None:
    """Append the answer, and return once it is on the disk.

    A line that a kill has cut was never acknowledged, and is removed before the next one.
    """
    is_new = not path.exists()
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        content = file.read()
        begin = content.rfind(b"\n") + 1
        if _is_answer(content[begin:]):
            file.write(b"\n")
        else:
            file.truncate(begin)
        file.write(journal_line(answer).encode())
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync([path.parent])


def journal_line(answer: Answer) -> str:
    """Return the line of the journal that holds the answer, with its end."""
    return json.dumps(answer.model_dump(exclude_defaults=True), ensure_ascii=False) + "\n"


def read_journal(path: Path) -> tuple[Answer, ...]:
    """Return all answers of the journal in its order, those that were undone or replaced included.

    Raises:
        InputError: a line is no answer. A last line that a kill has cut is left out.
    """
    answers = []
    *lines, last = path.read_bytes().split(b"\n")
    # Editors may leave out the end of the last line.
    whole = [*lines, last] if _is_answer(last) else lines
    for number, line in enumerate(whole, start=1):
        try:
            answers.append(Answer.model_validate_json(line))
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"])) or "line"
            raise InputError(f"{path}:{number}: {where}: {fault['msg']}, need an answer of simile label") from error
    return tuple(answers)


def standing(journal: Iterable[Answer]) -> tuple[Answer, ...]:
    """Return each person's last answer to each pair, in the order of the journal, without those that were undone."""
    last: dict[tuple[str, str], Answer] = {}
    for answer in journal:
        last.pop((answer.annotator, answer.pair), None)
        last[answer.annotator, answer.pair] = answer
    return tuple(answer for answer in last.values() if answer.answer != "undone")


def read_answers(path: Path) -> tuple[Answer, ...]:
    """Return the answers of the journal that are `standing`; for errors see `read_journal`."""
    return standing(read_journal(path))


def _is_answer(line: bytes) -> bool:
    try:
        Answer.model_validate_json(line)
    except ValidationError:
        return False
    return True

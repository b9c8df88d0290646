"""One person's way through the pairs: what is shown next, and each answer in the journal once."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from threading import Lock
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from labelling.answers import LABELS, Answer, Choice, Part, append_answer, read_journal, standing
from labelling.differences import Segment, marked
from labelling.order import Task, require_same_random_part
from simile.artifacts.strict import StrictModel
from simile.files import sync

_NUM_RECENT = 20
"""Answers whose median time tells how long the others will take."""
_WORDS = {label: choice for choice, label in LABELS.items()}


class StaleError(Exception):
    """A click on what is no longer shown, such as one in a second window."""


class Undo(StrictModel):
    """A request to take the last answer back."""

    sequence: Annotated[int, Field(ge=0)]
    """`State.sequence` of what was shown when the key was pressed."""


class Click(Undo):
    """An answer to the pair that is shown."""

    pair: Annotated[str, Field(max_length=16)]
    answer: Literal["same", "different", "unsure", "skip"]
    seconds: Annotated[float, Field(ge=0, le=1e6)]
    note: Annotated[str, Field(max_length=2000)] = ""


class Shown(BaseModel):
    """A pair as the browser gets it: without scores, so that nobody follows them."""

    key: str
    first: list[Segment]
    second: list[Segment]
    label: Choice | None
    """The label that the pair has already."""
    reason: str
    note: str
    """The note of the answer that was taken back."""


class Progress(BaseModel):
    """How many pairs are answered, of the part that is shown and of all."""

    part: Part
    part_done: int
    part_total: int
    done: int
    total: int
    seconds_left: float | None
    """Time that the rest of the part will take; None before the first answer."""


class State(BaseModel):
    """All that the page shows."""

    sequence: int
    """Number of this person's lines in the journal. A click names it: one that arrives twice is written once."""
    pair: Shown | None
    """None once every pair is answered."""
    progress: Progress
    counts: dict[Choice, int]
    last: Choice | None
    """The answer that undo would take back."""


class Annotation:
    """The answers of one person to the tasks, kept in the journal; several threads may call the methods.

    Raises:
        InputError: the file holds something else than answers, or answers that do not fit the tasks.
    """

    def __init__(self, tasks: Sequence[Task], out: Path, *, annotator: str) -> None:
        self._tasks, self._out, self._annotator = {task.pair.key: task for task in tasks}, out, annotator
        self._lock = Lock()
        self._journal = self._read()
        require_same_random_part(tasks, standing(self._journal))

    @property
    def num_unknown(self) -> int:
        """Number of this person's answers to pairs that are not among the tasks."""
        return sum(answer.pair not in self._tasks for answer in standing(self._journal))

    def state(self) -> State:
        """Return what is to be shown."""
        with self._lock:
            return self._state()

    def answer(self, click: Click) -> State:
        """Write the answer, unless this click has been written before; return once it is on the disk.

        Raises:
            StaleError: the click is not on what is shown now.
            OSError: the answer could not be written.
        """
        with self._lock:
            if not self._is_repeated(click.sequence, click.answer, pair=click.pair):
                task = self._current()
                if task is None or click.sequence != len(self._journal) or click.pair != task.pair.key:
                    raise StaleError
                self._append(task, click.answer, seconds=click.seconds, note=click.note)
            return self._state()

    def undo(self, undo: Undo) -> State:
        """Take the last answer back, unless this has been done before; for errors see `answer`."""
        with self._lock:
            if not self._is_repeated(undo.sequence, "undone"):
                answers = self._answers()
                if undo.sequence != len(self._journal) or not answers:
                    raise StaleError
                last = answers[-1]
                self._append(self._tasks[last.pair], "undone", note=last.note)
            return self._state()

    def _read(self) -> list[Answer]:
        journal = read_journal(self._out) if self._out.exists() else ()
        return [answer for answer in journal if answer.annotator == self._annotator]

    def _answers(self) -> list[Answer]:
        return [answer for answer in standing(self._journal) if answer.pair in self._tasks]

    def _is_repeated(self, sequence: int, answer: Choice, *, pair: str | None = None) -> bool:
        """Return whether the last line is of this click, which was not acknowledged then; it is on the disk now."""
        last = self._journal[-1] if sequence == len(self._journal) - 1 else None
        if last is None or last.answer != answer or pair not in (None, last.pair):
            return False
        # The process that wrote it may have been killed before it was on the disk.
        sync([self._out])
        return True

    def _append(self, task: Task, choice: Choice, *, seconds: float | None = None, note: str = "") -> None:
        answer = Answer(
            pair=task.pair.key,
            text_a=task.pair.text_a,
            text_b=task.pair.text_b,
            answer=choice,
            annotator=self._annotator,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=None if seconds is None else round(seconds, 1),
            note=note,
            part=task.part,
            stratum=task.pair.stratum,
            inclusion_probability=task.pair.inclusion_probability,
        )
        try:
            append_answer(self._out, answer)
        except OSError:
            # The line may be whole in the file all the same; then the next attempt is a repeated one.
            self._journal = self._read()
            raise
        self._journal.append(answer)

    def _current(self) -> Task | None:
        """Return the task that is shown: the one whose answer was just taken back, else the first without one."""
        if self._journal and self._journal[-1].answer == "undone" and self._journal[-1].pair in self._tasks:
            return self._tasks[self._journal[-1].pair]
        answered = {answer.pair for answer in self._answers()}
        return next((task for key, task in self._tasks.items() if key not in answered), None)

    def _state(self) -> State:
        answers, task = self._answers(), self._current()
        return State(
            sequence=len(self._journal),
            pair=task and self._shown(task),
            progress=self._progress(answers, task),
            counts=dict(Counter(answer.answer for answer in answers)),
            last=answers[-1].answer if answers else None,
        )

    def _shown(self, task: Task) -> Shown:
        first, second = marked(task.pair.text_a, task.pair.text_b)
        last = self._journal[-1] if self._journal else None
        return Shown(
            key=task.pair.key,
            first=first,
            second=second,
            label=_WORDS[task.present.label] if task.present else None,
            reason=task.present.reason if task.present else "",
            note=last.note if last and (last.pair, last.answer) == (task.pair.key, "undone") else "",
        )

    def _progress(self, answers: Sequence[Answer], task: Task | None) -> Progress:
        part = (task or list(self._tasks.values())[-1]).part
        keys = {key for key, one in self._tasks.items() if one.part == part}
        num_done = sum(answer.pair in keys for answer in answers)
        times = [answer.seconds for answer in answers if answer.seconds is not None][-_NUM_RECENT:]
        return Progress(
            part=part,
            part_done=num_done,
            part_total=len(keys),
            done=len(answers),
            total=len(self._tasks),
            seconds_left=median(times) * (len(keys) - num_done) if times else None,
        )

"""Scores of pairs by their words: at once on the event loop for little text, else in a thread.

It is a thread of its own, so that the words of a small call do not wait behind the tokens of a large one.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

from serving.call import MAX_INLINE_CHARACTERS, Call, LexicalScores, Results
from serving.job_queue import Job, JobQueue, estimated_tokens
from simile.scoring import Lexical

_NO_ENCODER = -1
"""Encoder index of lexical jobs."""
_MAX_TOKENS_PER_TEXT = 512
"""Upper bound of what one text takes of the admission budget: counting the words of a long text is fast."""


@dataclass
class LexicalScoring:
    """Scores pairs by the lexical members of the bundle, possibly none."""

    members: Sequence[Lexical]
    queue: JobQueue
    """Holds the jobs until the thread begins on them; no inference thread takes them."""
    results: Results

    def __post_init__(self) -> None:
        self.threads = ThreadPoolExecutor(1, thread_name_prefix="lexical")

    def plan(self, call: Call) -> None:
        """Set the jobs that the call's lexical work needs to have admitted: none if it does not have to wait."""
        # A text counts once per pair, because so does the time that it takes.
        if self.members and sum(len(call.texts[row]) for row in call.pair_P2.ravel().tolist()) > MAX_INLINE_CHARACTERS:
            sizes = ((text, min(_MAX_TOKENS_PER_TEXT, estimated_tokens(text))) for text in call.texts)
            now = perf_counter()
            call.lexical_jobs = [Job(_NO_ENCODER, 0, text, num_tokens, now) for text, num_tokens in sizes]

    def submit(self, call: Call) -> None:
        """Compute the scores of the admitted call, or have the thread do so."""
        if call.lexical_jobs:
            call.num_missing += 1
            self.threads.submit(self._run, call)
        else:
            call.lexical_scores = self._scores(call)

    def _run(self, call: Call) -> None:
        # Otherwise the call was given up before its turn.
        if call.lexical_jobs[0].is_waiting:
            self.queue.begin(call.lexical_jobs)
            try:
                self.results.post(call.receive_lexical, self._scores(call))
            # A text that breaks a member must fail its own call, which waits for it.
            except Exception as error:  # noqa: BLE001
                self.results.post(call.fail, error)

    def _scores(self, call: Call) -> LexicalScores:
        return {member.name: member.cosines(call.texts, call.pair_P2) for member in self.members}

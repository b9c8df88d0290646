"""The tokenizer threads: jobs come from the event loop (`Tokenization.submit`) and go on to the `JobQueue`.

A job that fails goes back to the event loop through `Results`.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

from serving.call import MAX_INLINE_CHARACTERS, Results
from serving.errors import InvalidRequestError
from serving.job_queue import Job, JobQueue
from serving.metrics import Metrics
from simile.hardware import usable_cores
from simile.scoring import Encoder

_TEXTS_PER_CHUNK = 64
"""The inference threads begin on the first chunk of a long call while the others are being tokenized."""


@dataclass
class Tokenization:
    """Tokenizes jobs and makes them ready for inference."""

    encoders: Sequence[Encoder]
    queue: JobQueue
    results: Results
    metrics: Metrics
    refuse_long_texts: bool
    """Fail a text that has more tokens than its encoder reads, instead of cutting it."""

    def __post_init__(self) -> None:
        self.threads = ThreadPoolExecutor(usable_cores(), thread_name_prefix="tokenizer")

    def submit(self, jobs: Sequence[Job]) -> None:
        """Tokenize the jobs: at once if there is little text, else in the tokenizer threads."""
        is_little = sum(len(job.text) for job in jobs) <= MAX_INLINE_CHARACTERS
        for _, group in groupby(jobs, key=lambda job: job.encoder):
            of_encoder = list(group)
            for start in range(0, len(of_encoder), _TEXTS_PER_CHUNK):
                chunk = of_encoder[start : start + _TEXTS_PER_CHUNK]
                if is_little:
                    self._tokenize(chunk)
                else:
                    self.threads.submit(self._tokenize, chunk)

    def _tokenize(self, jobs: Sequence[Job]) -> None:
        """Tokenize jobs of one encoder and make them ready."""
        # Dropped jobs no longer count in the admission budget, so nothing else bounds the work on them.
        if not (jobs := [job for job in jobs if job.is_waiting]):
            return
        encoder = self.encoders[jobs[0].encoder]
        try:
            with self.metrics.stage("tokenize"):
                tokens = encoder.tokenize([job.text for job in jobs], [job.side for job in jobs])
        # A text that breaks the tokenizer must fail only its own calls. (A panic in Rust is not an Exception.)
        except BaseException as error:  # noqa: BLE001
            if len(jobs) == 1:
                failure = error if isinstance(error, Exception) else RuntimeError(repr(error))
                self.results.post(self.results.on_failed, jobs[0], failure)
            else:
                for job in jobs:
                    self._tokenize([job])
            return
        for job, text in zip(jobs, tokens, strict=True):
            job.ids, job.is_cut, job.num_unknown = text.ids, text.is_cut, text.num_unknown
        refused = [job for job in jobs if job.is_cut] if self.refuse_long_texts else []
        for job in refused:
            got = f"got a text of {len(job.text)} characters, need at most {encoder.max_length} tokens"
            self.results.post(self.results.on_failed, job, InvalidRequestError(got))
        self.queue.ready([job for job in jobs if job not in refused] if refused else jobs)

import threading
from time import monotonic, sleep

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.waiting import Job, Waiting, length_class


def waiting_of(*, max_tokens=10_000, batch_tokens=256, most_padding=16, least_share=0) -> Waiting:
    return Waiting(max_tokens=max_tokens, batch_tokens=batch_tokens, most_padding=most_padding, least_share=least_share)


def job_of(length: int, encoder: int = 0, guess: int | None = None) -> Job:
    job = Job(encoder, "text", length if guess is None else guess, arrived=0.0)
    job.ids = np.zeros(length, dtype=np.int64)
    return job


def add(waiting: Waiting, *jobs: Job) -> None:
    assert waiting.admit(jobs)
    waiting.ready(jobs)


def lengths(jobs: list[Job]) -> list[int]:
    return [job.tokens for job in jobs]


def test_texts_of_like_length_go_together_and_the_first_text_goes_first():
    waiting = waiting_of()
    add(waiting, *(job_of(length) for length in (40, 9, 41, 10, 9)))
    assert lengths(waiting.take()) == [41, 40]
    assert lengths(waiting.take()) == [10, 9, 9]


@pytest.mark.parametrize(("lengths_", "batches"), [([20, 12], [[20, 12]]), ([30, 10], [[30], [10]])])
def test_next_length_joins_where_padding_is_cheaper_than_a_batch_of_its_own(lengths_, batches):
    waiting = waiting_of(most_padding=16)
    add(waiting, *map(job_of, lengths_))
    assert [lengths(waiting.take()) for _ in batches] == batches


def test_batch_ends_at_its_budget():
    waiting = waiting_of(batch_tokens=100)
    add(waiting, *(job_of(20) for _ in range(7)))
    assert [len(waiting.take()) for _ in range(2)] == [5, 2]


@pytest.mark.parametrize(
    ("num_threads", "least_share", "shares"),
    [(1, 0, [6]), (2, 0, [3, 3]), (3, 0, [2, 2, 2]), (3, 30, [3, 3]), (2, 60, [6])],
)
def test_threads_that_wait_share_what_comes(num_threads, least_share, shares):
    waiting = waiting_of(least_share=least_share)
    taken = []
    threads = [threading.Thread(target=lambda: taken.append(waiting.take())) for _ in range(num_threads)]
    for thread in threads:
        thread.start()
    deadline = monotonic() + 5
    while waiting.num_takers < num_threads and monotonic() < deadline:
        sleep(0.01)
    add(waiting, *(job_of(10) for _ in range(6)))
    while sum(map(len, taken)) < 6 and monotonic() < deadline:
        sleep(0.01)
    waiting.close()
    for thread in threads:
        thread.join(5)
    assert [len(batch) for batch in taken if batch] == shares


def test_thread_that_waits_alone_takes_all():
    waiting = waiting_of()
    add(waiting, *(job_of(10) for _ in range(6)))
    assert len(waiting.take()) == 6
    add(waiting, job_of(10))
    assert len(waiting.take()) == 1


def test_text_beyond_the_budget_goes_alone():
    waiting = waiting_of(batch_tokens=100)
    add(waiting, job_of(300), job_of(300))
    assert [lengths(waiting.take()) for _ in range(2)] == [[300], [300]]


def test_encoders_never_share_a_batch():
    waiting = waiting_of()
    add(waiting, job_of(9, encoder=0), job_of(9, encoder=1))
    assert [job.encoder for _ in range(2) for job in waiting.take()] == [0, 1]


def test_short_call_overtakes_the_rest_of_a_long_one_but_not_for_ever():
    waiting = waiting_of(batch_tokens=80, most_padding=0)
    long = [job_of(40) for _ in range(6)]
    add(waiting, *long)
    waiting.take()
    add(waiting, job_of(9))
    assert lengths(waiting.take()) == [9]
    # However many short ones come, the long one's next texts have their turn.
    for _ in range(20):
        add(waiting, job_of(9))
        if lengths(waiting.take())[0] == 40:
            break
    else:
        pytest.fail("the long call starves")


def test_guess_is_replaced_by_the_tokens_there_are():
    waiting = waiting_of()
    job = job_of(30, guess=5)
    assert waiting.admit([job])
    assert waiting.num_tokens == 5
    waiting.ready([job])
    assert waiting.num_tokens == 30
    waiting.take()
    assert waiting.num_tokens == 0


def test_admission_is_all_or_nothing_and_an_empty_queue_takes_anything():
    waiting = waiting_of(max_tokens=50)
    assert waiting.admit([job_of(40), job_of(40)])
    assert not waiting.admit([job_of(1)])
    assert waiting.num_tokens == 80


def test_dropped_job_is_neither_counted_nor_taken():
    waiting = waiting_of()
    gone, stays, unready = job_of(9), job_of(9), job_of(9)
    add(waiting, gone, stays)
    assert waiting.admit([unready])
    for job in (gone, unready, gone):
        waiting.drop(job)
    waiting.ready([unready])
    assert waiting.num_tokens == 9
    assert waiting.take() == [stays]
    waiting.drop(stays)
    assert waiting.num_tokens == 0


def test_taking_waits_for_a_job_and_ends_once_closed():
    waiting, taken = waiting_of(), []

    def work():
        while batch := waiting.take():
            taken.append(len(batch))

    thread = threading.Thread(target=work)
    thread.start()
    add(waiting, job_of(9), job_of(9))
    waiting.close()
    thread.join(10)
    assert not thread.is_alive()
    assert sum(taken) == 2


def test_oldest_is_that_of_what_waits():
    waiting = waiting_of()
    assert waiting.oldest() is None
    jobs = [job_of(9), job_of(99)]
    jobs[0].arrived, jobs[1].arrived = 2.0, 1.0
    add(waiting, *jobs)
    assert waiting.oldest() == 1.0


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(0, 1), st.booleans()), min_size=1, max_size=60),
    st.integers(0, 64),
)
def test_every_job_is_taken_once_within_the_budget(rows, most_padding):
    waiting = waiting_of(batch_tokens=512, most_padding=most_padding)
    jobs = [job_of(length, encoder) for length, encoder, _ in rows]
    add(waiting, *jobs)
    kept = [job for job, (_, _, is_dropped) in zip(jobs, rows, strict=True) if not is_dropped]
    for job in jobs:
        if job not in kept:
            waiting.drop(job)
    waiting.close()
    taken: list[Job] = []
    while batch := waiting.take():
        assert len({job.encoder for job in batch}) == 1
        assert len(batch) * batch[0].tokens <= 512
        assert lengths(batch) == sorted(lengths(batch), reverse=True)
        taken += batch
    assert sorted(map(id, taken)) == sorted(map(id, kept))
    assert waiting.num_tokens == 0


@given(st.integers(1, 4000))
def test_lengths_of_a_class_differ_by_a_quarter_at_most(length):
    assert length_class(length) <= length_class(length + 1)
    if length > 8:
        assert length_class(int(length * 1.26) + 1) > length_class(length)

import threading
from time import monotonic, perf_counter, sleep

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.job_queue import BatchLimits, Client, Job, JobQueue, length_class


def queue_of(*, max_tokens=10_000, batch_tokens=256, max_padding=16, min_share=0) -> JobQueue:
    return JobQueue(max_tokens, BatchLimits(batch_tokens, max_padding, min_share))


def job_of(length: int, encoder: int = 0, guess: int | None = None) -> Job:
    job = Job(encoder, 0, "text", length if guess is None else guess, arrived=0.0)
    job.ids = np.zeros(length, dtype=np.int64)
    return job


def add(queue: JobQueue, *jobs: Job, **of_client) -> None:
    assert queue.admit(jobs, **of_client)
    queue.ready(jobs)


def lengths(jobs: list[Job]) -> list[int]:
    return [job.num_tokens for job in jobs]


def test_texts_of_similar_length_share_a_batch_and_the_first_text_goes_first():
    queue = queue_of()
    add(queue, *(job_of(length) for length in (40, 9, 41, 10, 9)))
    assert lengths(queue.take()) == [41, 40]
    assert lengths(queue.take()) == [10, 9, 9]


@pytest.mark.parametrize(("lengths_", "batches"), [([20, 12], [[20, 12]]), ([30, 10], [[30], [10]])])
def test_next_length_joins_where_padding_is_cheaper_than_a_batch_of_its_own(lengths_, batches):
    queue = queue_of(max_padding=16)
    add(queue, *map(job_of, lengths_))
    assert [lengths(queue.take()) for _ in batches] == batches


def test_batch_ends_at_its_token_limit():
    queue = queue_of(batch_tokens=100)
    add(queue, *(job_of(20) for _ in range(7)))
    assert [len(queue.take()) for _ in range(2)] == [5, 2]


@pytest.mark.parametrize(
    ("num_threads", "min_share", "shares"),
    [(1, 0, [6]), (2, 0, [3, 3]), (3, 0, [2, 2, 2]), (3, 30, [3, 3]), (2, 60, [6])],
)
def test_idle_threads_share_new_jobs(num_threads, min_share, shares):
    queue = queue_of(min_share=min_share)
    taken = []
    threads = [threading.Thread(target=lambda: taken.append(queue.take())) for _ in range(num_threads)]
    for thread in threads:
        thread.start()
    deadline = monotonic() + 5
    while queue.num_takers < num_threads and monotonic() < deadline:
        sleep(0.01)
    add(queue, *(job_of(10) for _ in range(6)))
    while sum(map(len, taken)) < 6 and monotonic() < deadline:
        sleep(0.01)
    queue.close()
    for thread in threads:
        thread.join(5)
    assert [len(batch) for batch in taken if batch] == shares


def test_only_idle_thread_takes_all_jobs():
    queue = queue_of()
    add(queue, *(job_of(10) for _ in range(6)))
    assert len(queue.take()) == 6
    add(queue, job_of(10))
    assert len(queue.take()) == 1


def test_text_beyond_the_token_limit_forms_its_own_batch():
    queue = queue_of(batch_tokens=100)
    add(queue, job_of(300), job_of(300))
    assert [lengths(queue.take()) for _ in range(2)] == [[300], [300]]


def test_encoders_never_share_a_batch():
    queue = queue_of()
    add(queue, job_of(9, encoder=0), job_of(9, encoder=1))
    assert [job.encoder for _ in range(2) for job in queue.take()] == [0, 1]


def test_short_call_overtakes_the_rest_of_a_long_one_but_not_for_ever():
    queue = queue_of(batch_tokens=80, max_padding=0)
    long = [job_of(40) for _ in range(6)]
    add(queue, *long)
    queue.take()
    add(queue, job_of(9))
    assert lengths(queue.take()) == [9]
    # However many short calls arrive, the next texts of the long call have their turn.
    for _ in range(20):
        add(queue, job_of(9))
        if lengths(queue.take())[0] == 40:
            break
    else:
        pytest.fail("the long call starves")


def test_estimate_is_replaced_by_the_number_of_tokens():
    queue = queue_of()
    job = job_of(30, guess=5)
    assert queue.admit([job])
    assert queue.num_tokens == 5
    queue.ready([job])
    assert queue.num_tokens == 30
    queue.take()
    assert queue.num_tokens == 0


def test_admission_is_all_or_nothing_and_an_idle_engine_takes_anything():
    queue = queue_of(max_tokens=50)
    assert queue.admit([job_of(40), job_of(40)])
    assert not queue.admit([job_of(13), job_of(13)])
    assert queue.num_tokens == 80


def test_a_job_takes_its_part_of_the_budget_until_it_is_released():
    queue = queue_of(max_tokens=50)
    jobs = [job_of(20), job_of(20)]
    for job in jobs:
        add(queue, job)
    assert queue.take() == jobs
    assert (queue.num_tokens, queue.held_tokens) == (0, 40)
    assert not queue.admit([job_of(20)])
    queue.release([jobs[0], jobs[0]])
    assert queue.held_tokens == 20
    assert queue.admit([job_of(20)])


def test_large_calls_are_admitted_one_at_a_time_beside_small_ones():
    queue = queue_of(max_tokens=50)
    assert queue.admit([job_of(10)])
    assert queue.admit([job_of(100)])
    assert not queue.admit([job_of(100)])
    assert queue.admit([job_of(10)])


def test_a_batch_has_all_of_a_client_that_fits_before_texts_of_others():
    queue = queue_of(batch_tokens=100, max_padding=40)
    one, many = Client("one"), Client("many")
    add(queue, *(job_of(20) for _ in range(20)), client=many)
    queue.take()
    own = [job_of(length) for length in (20, 20, 15, 12)]
    add(queue, *own, client=one)
    batch = queue.take()
    assert set(own) <= set(batch)
    assert len(batch) == 5


def test_released_job_is_neither_counted_nor_taken():
    queue = queue_of()
    gone, stays, unready = job_of(9), job_of(9), job_of(9)
    add(queue, gone, stays)
    assert queue.admit([unready])
    for job in (gone, unready, gone):
        queue.release([job])
    queue.ready([unready])
    assert queue.num_tokens == 9
    assert queue.take() == [stays]
    queue.release([stays])
    assert queue.num_tokens == 0


def test_take_waits_for_a_job_and_ends_once_the_queue_is_closed():
    queue, taken = queue_of(), []

    def work():
        while batch := queue.take():
            taken.append(len(batch))

    thread = threading.Thread(target=work)
    thread.start()
    add(queue, job_of(9), job_of(9))
    queue.close()
    thread.join(10)
    assert not thread.is_alive()
    assert sum(taken) == 2


def test_age_is_that_of_the_job_that_has_waited_longest():
    queue = queue_of()
    assert queue.max_age_s() == 0
    jobs = [job_of(9), job_of(99)]
    now = perf_counter()
    jobs[0].arrived, jobs[1].arrived = now, now - 100
    add(queue, *jobs)
    assert queue.max_age_s() == pytest.approx(100, abs=10)


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(0, 1), st.booleans()), min_size=1, max_size=60),
    st.integers(0, 64),
)
def test_every_job_is_taken_once_within_the_budget(rows, max_padding):
    queue = queue_of(batch_tokens=512, max_padding=max_padding)
    jobs = [job_of(length, encoder) for length, encoder, _ in rows]
    add(queue, *jobs)
    kept = [job for job, (_, _, is_released) in zip(jobs, rows, strict=True) if not is_released]
    for job in jobs:
        if job not in kept:
            queue.release([job])
    queue.close()
    taken: list[Job] = []
    while batch := queue.take():
        assert len({job.encoder for job in batch}) == 1
        assert len(batch) * batch[0].num_tokens <= 512
        assert lengths(batch) == sorted(lengths(batch), reverse=True)
        taken += batch
    assert sorted(map(id, taken)) == sorted(map(id, kept))
    assert queue.num_tokens == 0


@given(st.integers(1, 4000))
def test_lengths_of_a_class_differ_by_at_most_a_quarter(length):
    assert length_class(length) <= length_class(length + 1)
    if length > 8:
        assert length_class(int(length * 1.26) + 1) > length_class(length)


GREEDY, OTHER = Client("greedy"), Client("other")
LATER = Client("other", is_batch=True)


def taken_in_turn(queue: JobQueue) -> list[Client]:
    """Return the clients of the next ten batches of one text, after both clients have sent ten texts each."""
    for _ in range(10):
        add(queue, job_of(20), client=OTHER)
        add(queue, job_of(20), client=GREEDY)
    return [queue.take()[0].client for _ in range(10)]


def test_another_client_waits_for_one_batch_however_many_calls_a_greedy_one_sends():
    queue = queue_of(batch_tokens=64)
    for _ in range(100):
        add(queue, job_of(16), client=GREEDY)
    assert {job.client for job in queue.take()} == {GREEDY}
    add(queue, job_of(16), client=OTHER)
    batch = queue.take()
    assert OTHER in {job.client for job in batch}
    # The rest of the batch is filled.
    assert len(batch) == 4


def test_clients_share_by_tokens():
    queue, num_tokens = queue_of(batch_tokens=20, max_tokens=100_000), {GREEDY: 0, OTHER: 0}
    for _ in range(200):
        add(queue, job_of(19), client=GREEDY)
    for _ in range(100):
        add(queue, job_of(10), client=OTHER)
    for _ in range(60):
        for job in queue.take():
            num_tokens[job.client] += job.num_tokens
    assert abs(num_tokens[GREEDY] - num_tokens[OTHER]) <= 40


def test_a_client_saves_up_no_turns_while_it_is_idle():
    queue = queue_of(batch_tokens=20)
    for _ in range(20):
        add(queue, job_of(20), client=GREEDY)
        queue.take()
    taken = taken_in_turn(queue)
    assert 4 <= taken.count(OTHER) <= 6


def test_an_interactive_client_is_not_set_back_by_batch_work_of_others():
    queue = queue_of(batch_tokens=20)
    for client in (*[GREEDY] * 50, LATER, GREEDY):
        add(queue, job_of(20), client=client)
        queue.take()
    taken = taken_in_turn(queue)
    assert 4 <= taken.count(GREEDY) <= 6


def test_batch_work_waits_until_no_other_does_and_shares_no_batch_with_it():
    queue = queue_of()
    add(queue, job_of(9), job_of(9), client=LATER)
    add(queue, job_of(9), client=GREEDY)
    add(queue, job_of(9), client=OTHER)
    assert [{job.client for job in queue.take()} for _ in range(2)] == [{GREEDY, OTHER}, {LATER}]


def test_a_greedy_client_leaves_room_in_the_budget_for_others():
    queue = queue_of(max_tokens=1000)
    while queue.admit([job_of(10)], GREEDY):
        pass
    assert 700 <= queue.num_tokens <= 760
    while queue.admit([job_of(10)], OTHER):
        pass
    assert 850 <= queue.num_tokens < 1000
    assert queue.admit([job_of(10)], Client("third"))


def test_the_only_client_without_a_key_has_the_whole_budget():
    queue = queue_of(max_tokens=1000)
    while queue.admit([job_of(10)]):
        pass
    assert queue.num_tokens == 1000


@given(st.lists(st.tuples(st.sampled_from([GREEDY, OTHER, LATER]), st.integers(1, 300), st.booleans()), max_size=60))
def test_every_job_is_taken_or_released_once_and_the_budget_is_free_again(calls):
    queue, expected, taken = queue_of(max_tokens=10**6), [], []
    for client, length, is_released in calls:
        job = job_of(length, guess=7)
        add(queue, job, client=client)
        if is_released:
            queue.release([job])
        else:
            expected.append(job)
    while queue.num_tokens:
        taken += queue.take()
    queue.release(taken)
    assert {id(job) for job in taken} == {id(job) for job in expected}
    assert len(taken) == len(expected)
    assert queue.held_tokens == 0
    assert all(share.num_tokens == share.held_tokens == 0 for share in queue._shares.values())

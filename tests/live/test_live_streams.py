"""Places and the queue before them; sound that passes between threads and the event loop."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest
from tiny_live import endless_pipeline, run
from tiny_pipeline import RATE, recording

from valle.given_audio import PromptError
from valle.inference.continuation import ContinueSettings
from valle.live.chunk_buffer import ChunkBuffer
from valle.live.prompt_feed import PromptFeed, StreamCancelled
from valle.live.streams import HELD_SECONDS, PoolFull, StreamPool, StreamRequest

PIPELINE = endless_pipeline()


def request(prompt: PromptFeed | np.ndarray, *, seconds: float = 0.3, **fields: float) -> StreamRequest:
    settings = ContinueSettings(prompt_seconds=0.5, max_seconds=seconds, block_seconds=0.2, level="none")
    return StreamRequest(pipeline=PIPELINE, prompt=prompt, sample_rate=RATE, settings=settings, seed=0, **fields)


def test_the_queue_moves_up_when_one_ends_or_leaves_and_is_full_at_its_limit() -> None:
    async def work() -> None:
        pool, moves = StreamPool(places=1, queue=3), dict[str, list[int]](a=[], b=[], c=[], d=[])
        feed = PromptFeed(RATE, 0.5)
        prompts = {"a": feed, "b": recording(0.5), "c": recording(0.5), "d": recording(0.5)}
        streams = {name: pool.open(request(prompt), on_move=moves[name].append) for name, prompt in prompts.items()}
        with pytest.raises(PoolFull, match=r"try again in [0-9]+ s"):
            pool.open(request(recording(0.5)))
        await streams["b"].close()
        feed.push(recording(0.5))
        for name in "acd":
            assert sum([len(chunk) async for chunk in streams[name]]) == round(0.3 * RATE)
            await streams[name].finished.wait()
        assert [chunk async for chunk in streams["b"]] == []
        assert moves == {"a": [], "b": [1], "c": [2, 1, 0], "d": [3, 2, 1, 0]}
        pool.close()

    run(work())


def test_what_the_pipeline_refuses_is_raised_to_the_listener() -> None:
    async def work() -> None:
        pool = StreamPool(places=1, queue=0)
        stream = pool.open(request(recording(0.1)))
        with pytest.raises(PromptError, match=r"at least 0\.2 s"):
            await anext(stream)
        await stream.finished.wait()
        pool.close()

    run(work())


def test_new_audio_runs_no_further_ahead_than_it_may_and_waits_where_nobody_reads() -> None:
    async def work() -> None:
        pool = StreamPool(places=2, queue=0)
        stream = pool.open(request(recording(0.5), seconds=60, ahead_seconds=0.5))
        await anext(stream)
        await asyncio.sleep(1.0)
        assert stream.live is not None and stream.live.generated_seconds < 1.0 + 0.5 + 0.5
        await stream.close()
        idle = pool.open(request(recording(0.5), seconds=60))
        await anext(idle)
        assert idle.live is not None
        before = -1.0
        while idle.live.generated_seconds > before:
            before = idle.live.generated_seconds
            await asyncio.sleep(1.0)
        assert HELD_SECONDS <= before <= HELD_SECONDS + 0.5
        await idle.close()
        pool.close()

    run(work())


def test_a_feed_ends_where_the_prompt_does_however_it_is_cut() -> None:
    wav = recording(1)
    for size in (1, 999, 16000):
        feed = PromptFeed(RATE, 0.1)
        for first in range(0, 3000, size):
            feed.push(wav[first : first + size])
        assert feed.is_full and feed.received == 1600 and np.array_equal(np.concatenate(list(feed)), wav[:1600])


def test_who_waits_for_a_piece_hears_of_the_end_and_of_a_cancellation() -> None:
    ended, cancelled = PromptFeed(RATE, 1), PromptFeed(RATE, 1)
    timers = [threading.Timer(0.05, ended.end), threading.Timer(0.05, cancelled.cancel)]
    for timer in timers:
        timer.start()
    assert list(ended) == []
    with pytest.raises(StreamCancelled):
        next(cancelled)


def test_a_buffer_holds_no_more_than_it_may_and_lets_its_thread_go_when_it_is_closed() -> None:
    async def work() -> None:
        buffer, wanted = ChunkBuffer(most=250), list[bool]()

        def make() -> None:
            for number in range(10):
                wanted.append(buffer.put(np.full(100, number, np.float32)))
                if not wanted[-1]:
                    return

        thread = threading.Thread(target=make)
        thread.start()
        time.sleep(0.1)
        assert len(wanted) == 2  # and a third chunk is held, whose thread waits
        assert [int((await anext(buffer))[0]) for _ in range(4)] == [0, 1, 2, 3]
        buffer.close()
        thread.join(timeout=5)
        assert not thread.is_alive() and wanted[-1] is False
        with pytest.raises(StopAsyncIteration):
            await anext(buffer)

    run(work())

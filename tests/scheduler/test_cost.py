"""Estimates are learned, scaled, and never made up."""

from __future__ import annotations

import pytest

from vitascope.request import AttentionCache, GenerationRequest
from vitascope.scheduler.cost import MAX_SHAPES, CostBook, wait_s
from vitascope.wire import Stats


def request(**changes) -> GenerationRequest:
    values = {
        "model": "m", "prompt": "p", "negative_prompt": "", "height": 64, "width": 64, "num_frames": 17,
        "fps": 8.0, "num_inference_steps": 20, "guidance_scale": 2.0, "seed": 0,
    }  # fmt: skip
    return GenerationRequest(**(values | changes))


def stats(**stage_s: float) -> Stats:
    return Stats(stage_s=stage_s, peak_memory_bytes=0, num_inference_steps=20)


@pytest.fixture
def book():
    book = CostBook()
    book.observe(request(), stats(encode=1.0, denoise=10.0, decode=2.0, finish=0.5), 20)
    return book


def test_nothing_is_estimated_before_something_was_seen():
    assert CostBook().remaining_s(request(), "queued", 0) is None


def test_another_model_teaches_nothing(book):
    assert book.remaining_s(request(model="other"), "queued", 0) is None


def test_steps_with_an_attention_cache_are_learned_apart(book):
    cached = request(attention_cache=AttentionCache(start_step=0, interval=4, end_step=19))
    assert book.remaining_s(cached, "denoise", 0) == pytest.approx(10.0 + 2.5)  # until one was seen
    book.observe(cached, stats(encode=1.0, denoise=6.0, decode=2.0, finish=0.5), 20)
    assert book.remaining_s(cached, "denoise", 0) == pytest.approx(6.0 + 2.5)
    assert book.remaining_s(request(), "denoise", 0) == pytest.approx(10.0 + 2.5)


def test_what_was_seen_is_what_is_expected(book):
    assert book.remaining_s(request(), "queued", 0) == pytest.approx(1.0 + 10.0 + 2.5)
    assert book.remaining_s(request(), "denoise", 15) == pytest.approx(2.5 + 2.5)
    assert book.remaining_s(request(), "decode", 20) == pytest.approx(2.5)


def test_a_larger_clip_takes_longer_in_proportion(book):
    assert book.remaining_s(request(height=128), "queued", 0) == pytest.approx(1.0 + 20.0 + 5.0)


def test_a_step_without_guidance_is_half_a_step(book):
    assert book.remaining_s(request(guidance_scale=1.0), "denoise", 0) == pytest.approx(5.0 + 2.5)


def test_the_nearest_shape_is_the_one_that_is_scaled(book):
    book.observe(request(height=256, width=256), stats(denoise=200.0), 20)
    assert book.rates(request(height=240, width=256)).step_s == pytest.approx(10.0 * 240 / 256)
    assert book.rates(request(height=72)).step_s == pytest.approx(0.5 * 72 / 64)


def test_a_resumed_job_counts_only_the_steps_it_took():
    book = CostBook()
    book.observe(request(), stats(denoise=5.0), 10)
    assert book.rates(request()).step_s == pytest.approx(0.5)


def test_a_job_that_took_no_step_teaches_nothing():
    book = CostBook()
    book.observe(request(), stats(decode=1.0), 0)
    assert book.rates(request()) is None


def test_several_outputs_are_encoded_once_and_decoded_each(book):
    three = request(num_outputs=3)
    assert book.remaining_s(three, "queued", 0) == pytest.approx(1.0 + 30.0 + 3 * 2.0 + 0.5)
    assert book.remaining_s(three, "denoise", 15) == pytest.approx(22.5 + 3 * 2.0 + 0.5)
    assert book.remaining_s(three, "decode", 20) == pytest.approx(20.0 + 3 * 2.0 + 0.5)
    assert book.remaining_s(three, "denoise", 20) == pytest.approx(20.0 + 2 * 2.0 + 0.5)
    assert book.remaining_s(three, "decode", 60) == pytest.approx(2.0 + 0.5)
    assert book.remaining_s(three, "finish", 60) == pytest.approx(0.5)


def test_several_outputs_teach_what_one_takes():
    book = CostBook()
    book.observe(
        request(num_outputs=3), stats(encode=1.0, denoise=30.0, decode=6.0, finish=0.5), num_steps=60
    )
    assert book.remaining_s(request(), "queued", 0) == pytest.approx(1.0 + 10.0 + 2.5)
    resumed = CostBook()
    resumed.observe(request(num_outputs=3), stats(denoise=15.0, decode=4.0, finish=0.5), num_steps=30)
    assert resumed.remaining_s(request(), "queued", 0) == pytest.approx(10.0 + 2.5)


def test_estimates_follow_what_is_seen_later(book):
    for _ in range(30):
        book.observe_step(request(), 2.0)
    assert book.rates(request()).step_s == pytest.approx(2.0, rel=0.01)


def test_a_wait_is_the_sum_of_those_before_on_one_worker_and_shared_by_two():
    assert wait_s([5.0], [1.0, 2.0]) == 8.0
    assert wait_s([5.0, 0.0], [1.0, 2.0]) == 3.0
    assert wait_s([5.0, 0.0], []) == 0.0


def test_shapes_that_were_not_seen_the_longest_are_forgotten(book):
    own = book.remaining_s(request(), "queued", 0)
    for height in range(16, 16 * MAX_SHAPES, 16):
        book.observe(request(model="other", height=height), stats(denoise=1.0), 20)
        book.observe_step(request(), 0.5)  # as fast as ever
    assert book.remaining_s(request(), "queued", 0) == pytest.approx(own)
    for height in (16 * MAX_SHAPES, 16 * MAX_SHAPES + 16):
        book.observe(request(model="other", height=height), stats(denoise=1.0), 20)
    for height in range(16, 16 * MAX_SHAPES, 16):
        book.observe(request(model="other", height=height), stats(denoise=1.0), 20)
    assert book.remaining_s(request(), "queued", 0) is None

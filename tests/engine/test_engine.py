"""Turns, errors and memory; what every family promises through the engine is in the contract suite."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

from tiny_models import Tiny, tiny
from vitascope.engine.devices import Device
from vitascope.engine.engine import Engine
from vitascope.engine.events import Advanced, Cancelled, Completed, Event, Failed, Warned
from vitascope.engine.generation import Generation
from vitascope.errors import DeviceLost, GenerationFailed, OutOfMemory
from vitascope.request import AttentionCache


@pytest.fixture
def model() -> Tiny:
    return tiny("wan21_t2v")


def start(engine: Engine, model: Tiny, job_id: str = "job", **wishes: Any) -> None:
    engine.start(job_id, model.request(**wishes), model.case.media)


def finish(engine: Engine) -> list[Event]:
    events: list[Event] = []
    while engine.busy:
        events += engine.tick()
    return events


@dataclass
class Breaking:
    """A family that raises at one of its questions, as often as told."""

    inner: Any
    question: str
    error: BaseException
    times: int = 1
    calls: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        return self._breaking(value) if name == self.question else value

    def _breaking(self, answer: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*args: Any) -> Any:
            self.calls.append(self.question)
            if len(self.calls) <= self.times:
                raise self.error
            return answer(*args)

        return ask


def test_an_idle_engine_has_nothing_to_do(model: Tiny) -> None:
    engine = Engine(model.family)
    assert not engine.busy
    assert engine.tick() == []


def test_each_tick_does_one_quantum_and_says_what_comes_next(model: Tiny) -> None:
    engine = Engine(model.family)
    start(engine, model)
    events = finish(engine)
    *advanced, done = events
    assert [(e.stage, e.step) for e in advanced if isinstance(e, Advanced)] == [
        ("denoise", 0),
        ("denoise", 1),
        ("denoise", 2),
        ("decode", 3),
        *[("decode", 3)] * 3,
    ]
    assert isinstance(done, Completed)
    assert set(done.cost.stage_s) == {"encode", "denoise", "decode"}
    assert all(s > 0 for s in done.cost.stage_s.values())
    assert done.cost.peak_memory_bytes > 0


def test_what_is_not_read_of_a_prompt_is_told_once_and_before_any_step(model: Tiny) -> None:
    engine = Engine(model.family)
    request = replace(model.request(max_sequence_length=5), num_outputs=2)
    engine.start("job", request, model.case.media)
    told = [type(e) for e in finish(engine)]
    assert told.index(Warned) == 0
    assert told.count(Warned) == 1
    assert told.count(Completed) == 2


def test_a_clip_whose_frames_nobody_takes_waits_and_others_go_on(model: Tiny) -> None:
    engine, frames, taken = Engine(model.family), [], []
    engine.start(
        "slow",
        model.request(seed=1),
        model.case.media,
        sink=frames.append,
        crowded=lambda: len(frames) == 1 and not taken,
    )
    start(engine, model, "other", seed=2)
    events = [event for _ in range(30) for event in engine.tick()]
    assert [event.job_id for event in events if isinstance(event, Completed)] == ["other"]
    assert len(frames) == 1
    assert engine.busy
    taken.append(True)
    assert isinstance(finish(engine)[-1], Completed)
    assert len(frames) == 3


def test_a_cancel_of_a_clip_whose_frames_nobody_takes_is_obeyed(model: Tiny) -> None:
    engine = Engine(model.family)
    engine.start("job", model.request(), model.case.media, crowded=lambda: True)
    assert not any(isinstance(event, Completed) for _ in range(9) for event in engine.tick())
    engine.cancel("job")
    assert engine.tick() == [Cancelled("job")]
    assert not engine.busy


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


def test_several_outputs_share_one_encoding_and_count_their_steps_through(
    model: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    encode = model.family.encode
    monkeypatch.setattr(
        model.family, "encode", lambda request, media: asked.append(request.prompt) or encode(request, media)
    )
    engine = Engine(model.family)
    request = replace(model.request(num_inference_steps=2), num_outputs=2)
    engine.start("job", request, model.case.media)
    events = finish(engine)
    advanced = [event for event in events if isinstance(event, Advanced)]
    assert len(asked) == 1
    assert {event.num_steps for event in advanced} == {4}
    steps = [(e.stage, e.step) for e in advanced if e.stage != "decode" or e.step in {2, 4}]
    assert list(dict.fromkeys(steps)) == [
        ("denoise", 0), ("denoise", 1), ("decode", 2), ("denoise", 2), ("denoise", 3), ("decode", 4),
    ]  # fmt: skip
    assert [event.output for event in events if isinstance(event, Completed)] == [0, 1]


@pytest.mark.parametrize("cache", [None, AttentionCache(start_step=0, interval=3, end_step=3)])
def test_an_output_in_the_middle_goes_on_from_its_state(model: Tiny, cache: AttentionCache | None) -> None:
    request = replace(model.request(num_inference_steps=4, attention_cache=cache), num_outputs=3)
    engine = Engine(model.family)
    engine.start("job", request, model.case.media)
    states = {}
    latents = {}
    while engine.busy:
        for event in engine.tick():
            if isinstance(event, Completed):
                latents[event.output] = event.latents
        snapshot = engine.snapshot("job")
        if snapshot is not None:
            states[snapshot.step] = snapshot.state
    assert {(step - 1) // 4 for step in states} == {0, 1, 2}
    middle = [step for step in states if (step - 1) // 4 == 1]
    for step in middle:
        again = Engine(model.family)
        again.start("job", request, model.case.media, output=1, resume=states[step])
        (advanced,) = again.tick()
        assert isinstance(advanced, Advanced)
        assert advanced.step == step
        for event in finish(again):
            if isinstance(event, Completed):
                assert torch.equal(event.latents, latents[event.output])


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
@pytest.mark.parametrize("question", ["encode", "begin", "predict", "decode"])
def test_running_out_of_memory_fails_the_job_and_leaves_the_engine_usable(
    model: Tiny, question: str, error: Exception
) -> None:
    engine = Engine(Breaking(model.family, question, error))  # type: ignore[arg-type]
    start(engine, model, "large")
    failed = finish(engine)[-1]
    assert isinstance(failed, Failed)
    assert failed.job_id == "large"
    assert isinstance(failed.error, OutOfMemory)
    start(engine, model, "small")
    assert isinstance(finish(engine)[-1], Completed)


class Recorder(Device):
    """A device that notes how often it was asked for memory back, and works until it is said to be broken."""

    def __init__(self) -> None:
        self.given_back = 0
        self.works = True

    def give_back(self) -> None:
        self.given_back += 1

    def answers(self) -> bool:
        return self.works


def test_memory_goes_back_to_the_device_when_nothing_is_in_flight_any_more(model: Tiny) -> None:
    device = Recorder()
    engine = Engine(model.family, device=device)
    start(engine, model, "a")
    start(engine, model, "b")
    while engine.busy:
        assert device.given_back == 0
        engine.tick()
    assert device.given_back == 1
    assert engine.tick() == []
    assert device.given_back == 1
    start(engine, model, "a")
    engine.tick()
    engine.cancel("a")
    engine.tick()
    assert device.given_back == 2


def test_what_a_generation_worked_in_is_gone_by_the_time_its_memory_goes_back(model: Tiny) -> None:
    """A failed pass is kept by its error, with every tensor that it had at hand."""
    held: list[weakref.ref[torch.Tensor]] = []

    def exhaust(samples: list[Any]) -> None:
        large = torch.zeros(8)
        held.append(weakref.ref(large))
        raise torch.OutOfMemoryError("CUDA out of memory")

    class Looking(Recorder):
        def give_back(self) -> None:
            super().give_back()
            assert all(tensor() is None for tensor in held)

    device = Looking()
    engine = Engine(Asking(model.family, exhaust), device=device)  # type: ignore[arg-type]
    start(engine, model)
    events = finish(engine)
    assert isinstance(events[-1], Failed)
    assert len(held) == 1
    assert device.given_back >= 1


@dataclass
class Asking:
    """A family whose predictions are another's."""

    inner: Any
    predict: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.mark.parametrize("question", ["encode", "predict", "decode"])
def test_a_device_that_broke_is_told_of_and_nothing_is_left_in_flight(model: Tiny, question: str) -> None:
    broken = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    engine = Engine(Breaking(model.family, question, broken))  # type: ignore[arg-type]
    start(engine, model, "a")
    start(engine, model, "b")
    with pytest.raises(DeviceLost, match="start this process anew"):
        finish(engine)
    assert not engine.busy
    assert engine.park("a") is None


def test_an_error_of_a_library_is_the_devices_if_the_device_answers_no_more(model: Tiny) -> None:
    device = Recorder()
    error = RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")
    for works, raised in ((True, RuntimeError), (False, DeviceLost)):
        device.works = works
        engine = Engine(Breaking(model.family, "predict", error), device=device)  # type: ignore[arg-type]
        start(engine, model)
        with pytest.raises(raised):
            finish(engine)


@pytest.mark.parametrize("look", ["preview", "snapshot"])
def test_a_device_may_be_found_broken_between_two_steps(
    model: Tiny, look: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(Generation, "save", fail)
    engine = Engine(Breaking(model.family, "preview", torch.AcceleratorError("CUDA error")))  # type: ignore[arg-type]
    start(engine, model)
    engine.tick()
    engine.tick()
    with pytest.raises(DeviceLost):
        getattr(engine, look)("job")


def test_an_unknown_error_passes_through_and_the_caller_learns_whose_turn_it_was(model: Tiny) -> None:
    engine = Engine(Breaking(model.family, "predict", RuntimeError("a bug")))  # type: ignore[arg-type]
    start(engine, model, "a")
    engine.tick()
    start(engine, model, "b")
    with pytest.raises(RuntimeError, match="a bug"):
        finish(engine)
    assert engine.drop_current() == ["a"]
    events = finish(engine)
    assert {e.job_id for e in events} == {"b"}
    assert isinstance(events[-1], Completed)


def test_a_failure_in_one_generation_does_not_touch_another(model: Tiny) -> None:
    engine = Engine(Breaking(model.family, "predict", MemoryError()))  # type: ignore[arg-type]
    start(engine, model, "a")
    start(engine, model, "b")
    last = {e.job_id: type(e) for e in finish(engine)}
    assert last == {"a": Failed, "b": Completed}


def test_a_cancel_between_decoded_chunks_is_obeyed(model: Tiny) -> None:
    engine, chunks = Engine(model.family), []
    engine.start("job", model.request(), model.case.media, sink=chunks.append)
    while not chunks:
        engine.tick()
    assert engine.cancel("job")
    assert engine.tick() == [Cancelled("job")]
    assert len(chunks) == 1


def test_a_cancel_before_the_first_tick_does_no_work(model: Tiny) -> None:
    family = Breaking(model.family, "encode", AssertionError("work was done"))
    engine = Engine(family)  # type: ignore[arg-type]
    start(engine, model)
    engine.cancel("job")
    assert engine.tick() == [Cancelled("job")]
    assert family.calls == []


def test_a_cancel_of_one_leaves_the_others_their_turn(model: Tiny) -> None:
    engine = Engine(model.family)
    start(engine, model, "a")
    start(engine, model, "b")
    engine.cancel("a")
    events = engine.tick()
    assert events[0] == Cancelled("a")
    assert [e.job_id for e in events] == ["a", "b"]


def test_nothing_is_known_of_a_job_that_is_not_in_flight(model: Tiny) -> None:
    engine = Engine(model.family)
    assert not engine.cancel("gone")
    assert engine.snapshot("gone") is None
    assert engine.preview("gone") is None
    assert engine.park("gone") is None


def test_a_job_cannot_be_started_twice(model: Tiny) -> None:
    engine = Engine(model.family)
    start(engine, model)
    with pytest.raises(GenerationFailed, match="in flight already"):
        start(engine, model)


def test_a_parked_job_leaves_the_device_and_goes_on_from_its_state(model: Tiny) -> None:
    engine = Engine(model.family)
    start(engine, model)
    whole = finish(engine)[-1]
    start(engine, model)
    engine.tick()
    engine.tick()
    snapshot = engine.park("job")
    assert snapshot is not None
    assert snapshot.step == 1
    assert not engine.busy
    engine.start("job", model.request(), model.case.media, resume=snapshot.state)
    resumed = finish(engine)[-1]
    assert isinstance(whole, Completed)
    assert isinstance(resumed, Completed)
    assert torch.equal(resumed.latents, whole.latents)


@pytest.mark.parametrize("cut", [0, 5, 100, -1])
def test_a_damaged_state_is_refused(model: Tiny, cut: int) -> None:
    engine = Engine(model.family)
    start(engine, model)
    engine.tick()
    engine.tick()
    snapshot = engine.park("job")
    assert snapshot is not None
    engine.start("job", model.request(), model.case.media, resume=snapshot.state[:cut])
    (failed,) = engine.tick()
    assert isinstance(failed, Failed)
    assert "damaged" in failed.error.message


def test_there_is_nothing_to_save_before_the_first_step(model: Tiny) -> None:
    engine = Engine(model.family)
    start(engine, model)
    assert engine.snapshot("job") is None
    engine.tick()
    assert engine.snapshot("job") is None


def test_no_gradients_are_kept(model: Tiny) -> None:
    engine = Engine(model.family)
    start(engine, model)
    done = finish(engine)[-1]
    assert isinstance(done, Completed)
    assert not done.latents.requires_grad
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()

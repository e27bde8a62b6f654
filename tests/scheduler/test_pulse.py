"""What counts as a worker's sign of life, and when it owes one."""

from __future__ import annotations

import pytest

from vitascope.card import Defaults, ModelCard, Rules
from vitascope.request import GenerationRequest
from vitascope.scheduler.pulse import Pulse
from vitascope.wire import (
    Cancel,
    Cancelled,
    Checkpointed,
    Failed,
    Finished,
    Generate,
    Loading,
    Measured,
    OutputStored,
    Parked,
    Preview,
    Proceed,
    Progress,
    Ready,
    Started,
    Stats,
    Warned,
)

REQUEST = GenerationRequest(
    model="m", prompt="p", negative_prompt="", height=8, width=8, num_frames=1, fps=1.0,
    num_inference_steps=4, guidance_scale=1.0, seed=0,
)  # fmt: skip
CARD = ModelCard(
    name="m", family="f", tasks=("t2v",), identity="x",
    defaults=Defaults(height=8, width=8, num_frames=1, fps=1.0, num_inference_steps=1, guidance_scale=1.0),
    rules=Rules(size_multiple=8, frame_stride=1, max_pixels=64, max_frames=1),
)  # fmt: skip
HELD = {"job_id": "a", "token": 1}
MEASURED = Measured(device="cpu", weights_bytes=1, working_bytes=1, free_bytes=1)
FINISHED = Finished(files=(), stats=Stats(stage_s={}, peak_memory_bytes=0, num_inference_steps=4), **HELD)


def generate(job_id: str = "a") -> Generate:
    return Generate(job_id=job_id, token=1, request=REQUEST)


def working() -> Pulse:
    """The pulse of a worker that has a job and has been silent for 10 s."""
    pulse = Pulse()
    pulse.heard(Ready(card=CARD, pid=1))
    pulse.sent(generate())
    pulse.passed(10)
    return pulse


@pytest.mark.parametrize(
    "event",
    [
        Started(step=0, **HELD),
        Warned(warnings=(), **HELD),
        Progress(stage="decode", step=4, num_steps=4, **HELD),
    ],
)
def test_what_the_devices_thread_says_is_a_sign_of_life(event):
    pulse = working()
    pulse.heard(event)
    assert pulse.silent_s == 0


@pytest.mark.parametrize(
    "event",
    [
        Checkpointed(step=1, key="k", **HELD),
        OutputStored(files=(), **HELD),
        Preview(job_id="a", step=1, image=b""),
        Finished(files=(), stats=FINISHED.stats, job_id="b", token=1),
    ],
)
def test_what_lives_on_beside_a_device_that_hangs_is_none(event):
    pulse = working()
    pulse.heard(event)
    pulse.sent(Cancel(**HELD))
    pulse.passed(1)
    assert pulse.silent_s == 11


@pytest.mark.parametrize(
    "end",
    [FINISHED, Failed(code="c", message="m", **HELD), Cancelled(**HELD), Parked(step=1, key=None, **HELD)],
)
def test_a_worker_that_has_nothing_to_do_owes_nothing(end):
    pulse = working()
    pulse.sent(generate("b"))
    pulse.heard(end)
    pulse.passed(5)
    assert pulse.silent_s == 5  # it holds another
    pulse.heard(Cancelled(job_id="b", token=1))
    pulse.passed(1000)
    assert pulse.silent_s == 5
    pulse.sent(generate("c"))
    assert pulse.silent_s == 0


def test_loading_counts_and_waiting_for_room_does_not():
    pulse = Pulse()
    pulse.passed(3)
    assert pulse.silent_s == 3
    pulse.heard(Loading(stage="download", progress=0.5))
    pulse.passed(2)
    assert pulse.silent_s == 2
    pulse.heard(MEASURED)
    pulse.passed(1000)
    assert pulse.silent_s == 0
    pulse.sent(Proceed())
    pulse.passed(4)
    assert pulse.silent_s == 4
    pulse.heard(Ready(card=CARD, pid=1))
    pulse.passed(1000)
    assert pulse.silent_s == 0

"""Who runs next, and where."""

from __future__ import annotations

from vitascope.jobs.job import Job
from vitascope.request import GenerationRequest
from vitascope.scheduler.policy import WorkerView, assign, room


def job(name: str, model: str = "a") -> Job:
    request = GenerationRequest(
        model=model, prompt="p", negative_prompt="", height=8, width=8, num_frames=5, fps=8.0,
        num_inference_steps=2, guidance_scale=1.0, seed=0,
    )  # fmt: skip
    return Job(id=name, request=request, created_at=0.0)


def named(pairs) -> list[tuple[str, str]]:
    return [(job.id, worker.name) for job, worker in pairs]


def test_the_oldest_job_is_served_first():
    assert named(assign([job("1"), job("2")], [WorkerView("w", "a", 1)])) == [("1", "w")]


def test_jobs_spread_over_the_emptiest_workers():
    workers = [WorkerView("busy", "a", 0), WorkerView("x", "a", 1), WorkerView("y", "a", 2)]
    pairs = named(assign([job("1"), job("2"), job("3"), job("4")], workers))
    assert sorted(worker for _, worker in pairs) == ["x", "y", "y"]
    assert pairs[0] == ("1", "y")
    assert [name for name, _ in pairs] == ["1", "2", "3"]


def test_a_job_whose_model_nobody_serves_holds_nobody_up():
    assert named(assign([job("1", "other"), job("2")], [WorkerView("w", "a", 1)])) == [("2", "w")]


def test_the_next_job_may_come_once_the_device_is_free():
    assert [room(stages) for stages in ([], ["start"], ["decode"], ["finish"])] == [1, 0, 0, 1]


def test_encoders_do_not_pile_up():
    assert room(["finish", "finish"]) == 0
    assert room(["finish", "denoise"]) == 0

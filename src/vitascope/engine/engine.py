"""The engine: generations in flight on one device, one quantum of work at a time.

Its driver owns the pace: it starts jobs, calls `tick` as long as the engine is `busy`, and may listen,
cancel, preview or save between two ticks. Everything runs on the driver's thread; only `cancel` may be called
from another.
"""

from __future__ import annotations

import time

import torch

from vitascope.card import ModelCard
from vitascope.engine.batch import next_group
from vitascope.engine.devices import Device, device_at, errors_of
from vitascope.engine.events import Advanced, Cancelled, Completed, Cost, Event, Failed, Warned
from vitascope.engine.generation import Crowded, Generation, Sink, Snapshot, Stage
from vitascope.errors import DeviceLost, GenerationFailed, VitascopeError
from vitascope.media.arrays import Picture
from vitascope.models.family import Family, Media
from vitascope.request import GenerationRequest

_PAUSE_S = 0.01  # between two looks at whether frames were taken, where there is nothing else to do


class Engine:
    """Drives one family.

    `max_batch` above 1 lets that many generations of equal shape share a forward pass: results then differ in
    the last bits from those of a generation that runs alone, which they do not by default.
    """

    def __init__(self, family: Family, *, max_batch: int = 1, device: Device | None = None) -> None:
        self._family = family
        self._max_batch = max_batch
        self._device = device or device_at(family.device)
        self._flying: dict[str, Generation] = {}  # in the order of waiting: who had a turn goes to the end
        self._to_cancel: set[str] = set()
        self._on_device: list[Generation] = []

    @property
    def card(self) -> ModelCard:
        """What the loaded model can do."""
        return self._family.card

    @property
    def busy(self) -> bool:
        """Whether `tick` has anything to do."""
        return bool(self._flying)

    def start(
        self,
        job_id: str,
        request: GenerationRequest,
        media: Media,
        *,
        output: int = 0,
        resume: bytes | None = None,
        sink: Sink | None = None,
        crowded: Crowded | None = None,
    ) -> None:
        """Take a job in; the work is done by later ticks.

        A request for several outputs makes them in turn, from `output` on, and tells each with `Completed`.
        `resume` is the state of a snapshot of the first of them. `sink` is called on the driver's thread with
        each chunk of frames in order; it should pass them on (to a queue) rather than encode them, so that
        the next generation's steps do not wait. As long as `crowded` says so, no more of it are made; others
        take their turns meanwhile.

        Raises:
            GenerationFailed: a job of that id is in flight already.

        """
        if job_id in self._flying:
            raise GenerationFailed(f"Job {job_id} is in flight already.")
        if not self._flying:
            self._device.forget_peak()
        self._flying[job_id] = Generation(
            job_id, request, media, output=output, sink=sink, crowded=crowded, resume=resume
        )

    def cancel(self, job_id: str) -> bool:
        """Stop a job before its next quantum of work; return whether it is in flight. `tick` reports it."""
        if job_id not in self._flying:
            return False
        self._to_cancel.add(job_id)
        return True

    def tick(self) -> list[Event]:
        """Do one quantum of work (an encode, a denoising step, a decoded chunk) and return what happened.

        An error that the engine knows ends its generations with `Failed`. Any other exception passes through:
        the caller then asks `drop_current` whose turn it was.

        Raises:
            DeviceLost: the device broke, and all generations in flight with it.

        """
        events: list[Event] = [Cancelled(job_id) for job_id in self._obey_cancels()]
        self._on_device = self._next_group()
        try:
            with errors_of(self._device), torch.inference_mode():
                self._work(self._on_device)
        except DeviceLost:
            self._flying.clear()
            raise
        except VitascopeError as error:
            events += [Failed(job_id, error) for job_id in self.drop_current()]
        warnings = {g.job_id: g.take_warnings() for g in self._on_device}
        events += [Warned(job_id, told) for job_id, told in warnings.items() if told]
        events += [self._after(g) for g in self._on_device]
        if events and not self._flying:
            self._rest()
        return events

    def drop_current(self) -> list[str]:
        """Forget the generations whose turn it was in the last tick, and return their job ids."""
        dropped = [g.job_id for g in self._on_device]
        for job_id in dropped:
            self._flying.pop(job_id, None)
        self._rest()
        return dropped

    def snapshot(self, job_id: str) -> Snapshot | None:
        """Save a job's state at this step boundary; None before a first step or if it is not in flight."""
        generation = self._flying.get(job_id)
        with errors_of(self._device):
            return None if generation is None else generation.save()

    def preview(self, job_id: str) -> Picture | None:
        """Draw the clean estimate of a job's last step; None before the first or if it is not in flight."""
        generation = self._flying.get(job_id)
        if generation is None or generation.output_step == 0:
            return None
        with errors_of(self._device), torch.inference_mode():
            return self._family.preview(generation.sample)

    def park(self, job_id: str) -> Snapshot | None:
        """Take a job off the device at this step boundary and return its state, from which it can go on."""
        snapshot = self.snapshot(job_id)
        self._flying.pop(job_id, None)
        self._to_cancel.discard(job_id)
        return snapshot

    def _rest(self) -> None:
        """Let go of what the last generations worked in."""
        self._on_device = []
        self._device.give_back()

    def _obey_cancels(self) -> list[str]:
        asked, self._to_cancel = self._to_cancel, set()
        return [job_id for job_id in sorted(asked) if self._flying.pop(job_id, None)]

    def _next_group(self) -> list[Generation]:
        """Choose whose turn it is; of none, where all wait for their frames to be taken, after a pause."""
        ready = [g for g in self._flying.values() if not g.held_up]
        if self._flying and not ready:
            time.sleep(_PAUSE_S)
        return next_group(ready, self._family, self._max_batch)

    def _work(self, group: list[Generation]) -> None:
        """One quantum for the group; all of it is in the same stage."""
        if not group:
            return
        stage, began = group[0].stage, time.perf_counter()
        self._family.adapters.use(group[0].request.loras)
        if stage is Stage.DENOISE:
            predictions = self._family.predict([g.sample for g in group])
            for generation, prediction in zip(group, predictions, strict=True):
                generation.advance(prediction)
        elif stage is Stage.ENCODE:
            group[0].encode(self._family)
        else:
            group[0].decode(self._family)
        self._device.wait()  # progress is told when it is true, not when it is queued
        share = (time.perf_counter() - began) / len(group)
        for generation in group:
            generation.stage_s[stage.value] = generation.stage_s.get(stage.value, 0.0) + share

    def _after(self, generation: Generation) -> Event:
        """Say what a generation's turn led to, and put it at the end of the line."""
        del self._flying[generation.job_id]
        if generation.stage is Stage.DONE:
            return self._completed(generation)
        self._flying[generation.job_id] = generation
        return Advanced(
            generation.job_id, generation.stage.value, generation.step, generation.request.all_steps
        )

    def _completed(self, generation: Generation) -> Completed:
        """Say that an output is complete; with the next one, if there is one, the generation flies on."""
        cost = Cost(dict(generation.stage_s), self._device.peak_memory_bytes())
        latents, output = self._family.finish(generation.sample), generation.output
        more = generation.next_output()
        if more:
            self._flying[generation.job_id] = generation
        return Completed(generation.job_id, cost, latents, output, last=not more)

"""How long a request takes: learned from the generations that ran, scaled to those that have not.

All times are device seconds. Nothing is guessed before something was seen: an estimate is None until then.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vitascope.request import GenerationRequest
from vitascope.wire import Stats

NEW_WEIGHT = 0.3  # of the newest observation in the running average
MAX_SHAPES = 64  # that are remembered; callers may choose among very many sizes, and all are looked through


@dataclass(frozen=True, slots=True)
class Shape:
    """What a step's time depends on: the model, pixels times frames, passes a step, an attention cache."""

    model: str
    volume: int
    passes: int
    cached: bool


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds of one step, of what comes before the first, of one output's decoding, and of the files.

    None: not seen yet.
    """

    step_s: float
    encode_s: float | None = None
    decode_s: float | None = None
    finish_s: float | None = None

    @property
    def longest_s(self) -> float:
        """The longest of them."""
        return max(self.step_s, self.encode_s or 0.0, self.decode_s or 0.0, self.finish_s or 0.0)


def shape_of(request: GenerationRequest) -> Shape:
    """Return the shape of a request; guidance above 1 takes a second pass."""
    volume = request.height * request.width * request.num_frames
    passes = 2 if request.guidance_scale > 1 else 1
    return Shape(request.model, volume, passes, request.attention_cache is not None)


class CostBook:
    """What was observed, by shape. Reading is safe from any thread, observing is for one."""

    def __init__(self) -> None:
        self._rates: dict[Shape, Rates] = {}

    def observe_step(self, request: GenerationRequest, step_s: float) -> None:
        """Take in the time of one step of a generation that is under way."""
        shape = shape_of(request)
        known = self._rates.get(shape)
        self._keep(
            shape, Rates(step_s) if known is None else replace(known, step_s=_blend(known.step_s, step_s))
        )

    def observe(self, request: GenerationRequest, stats: Stats, num_steps: int) -> None:
        """Take in a finished job, of which this worker did the last `num_steps` steps."""
        if num_steps <= 0:
            return
        shape, seconds = shape_of(request), stats.stage_s
        num_decoded = math.ceil(num_steps / request.num_steps)
        step_s = seconds.get("denoise", 0.0) / num_steps
        known = self._rates.get(shape, Rates(step_s))
        rates = Rates(
            _blend(known.step_s, step_s),
            _blend(known.encode_s, seconds.get("encode", 0.0)),
            _blend(known.decode_s, seconds.get("decode", 0.0) / num_decoded),
            _blend(known.finish_s, seconds.get("finish", 0.0)),
        )
        self._keep(shape, rates)

    def _keep(self, shape: Shape, rates: Rates) -> None:
        """Remember it as the newest; the one that was not seen the longest goes."""
        self._rates.pop(shape, None)
        self._rates[shape] = rates
        if len(self._rates) > MAX_SHAPES:
            del self._rates[next(iter(self._rates))]

    def rates(self, request: GenerationRequest) -> Rates | None:
        """Return what is known of a request's shape, or the nearest known shape of its model scaled to it."""
        wanted = shape_of(request)
        of_model = [item for item in list(self._rates.items()) if item[0].model == wanted.model]
        if not of_model:
            return None
        nearest, known = min(of_model, key=lambda item: _distance(item[0], wanted))
        larger = wanted.volume / nearest.volume
        return Rates(
            known.step_s * larger * wanted.passes / nearest.passes,
            known.encode_s,
            (known.decode_s or 0.0) * larger,
            (known.finish_s or 0.0) * larger,
        )

    def remaining_s(self, request: GenerationRequest, stage: str, step: int) -> float | None:
        """Estimate the seconds left of a job that has done `step` of all outputs' steps and is in `stage`."""
        rates = self.rates(request)
        if rates is None:
            return None
        encode = (rates.encode_s or 0.0) if step == 0 and stage in {"queued", "start", "encode"} else 0.0
        steps = (request.all_steps - step) * rates.step_s
        undecoded = request.num_outputs - step // request.num_steps + (stage == "decode")
        return encode + steps + undecoded * (rates.decode_s or 0.0) + (rates.finish_s or 0.0)


def wait_s(free_in: Sequence[float], costs: Iterable[float]) -> float:
    """Return when a job starts that stands behind jobs of these costs, on workers free in so many seconds."""
    free = list(free_in)
    heapq.heapify(free)
    for cost in costs:
        heapq.heapreplace(free, free[0] + cost)
    return free[0]


def _blend(old: float | None, new: float) -> float:
    return new if old is None else old + NEW_WEIGHT * (new - old)


def _distance(a: Shape, b: Shape) -> tuple[float, bool, bool]:
    return abs(math.log(a.volume / b.volume)), a.passes != b.passes, a.cached != b.cached

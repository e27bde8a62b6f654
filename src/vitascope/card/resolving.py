"""Where wishes meet a model's rules: what was not said is filled in, what cannot be is refused."""

from __future__ import annotations

import math
import secrets

from vitascope.card.model_card import Defaults, ModelCard, Rules
from vitascope.card.wish import Wish
from vitascope.errors import InvalidRequest
from vitascope.request import AttentionCache, GenerationRequest, Task

MAX_SEED = 2**63 - 1
MAX_PROMPT_CHARS = 32_000
MAX_LORA_SCALE = 4.0
MAX_OUTPUTS = 10
DEFAULT_STRENGTH = 0.8
MIN_FPS, MAX_FPS = 1.0, 120.0


def resolve(wish: Wish, card: ModelCard) -> GenerationRequest:
    """Fill `wish` with the card's native values and check every rule.

    Real numbers become floats even where a whole one was given, so that equal requests are written alike.

    Raises:
        InvalidRequest: names the field, what was given and what would do.

    """
    d, num_outputs = card.defaults, int(_in_range("num_outputs", wish.num_outputs, 1, 1, MAX_OUTPUTS))
    request = GenerationRequest(
        model=card.name,
        prompt=_prompt(wish.prompt),
        negative_prompt=_text(
            "negative_prompt", d.negative_prompt if wish.negative_prompt is None else wish.negative_prompt
        ),
        height=_size("height", wish.height, d.height, card.rules),
        width=_size("width", wish.width, d.width, card.rules),
        num_frames=_num_frames(wish, card),
        fps=float(_in_range("fps", wish.fps, d.fps, MIN_FPS, MAX_FPS)),
        num_inference_steps=int(
            _in_range(
                "num_inference_steps",
                wish.num_inference_steps,
                d.num_inference_steps,
                card.rules.min_steps,
                card.rules.max_steps,
            )
        ),
        guidance_scale=float(_in_range("guidance_scale", wish.guidance_scale, _guidance(wish, d), 0.0, 20.0)),
        guidance_scale_2=_optional(
            "guidance_scale_2", wish.guidance_scale_2, d.guidance_scale_2, card, (0.0, 20.0)
        ),
        boundary_ratio=_optional("boundary_ratio", wish.boundary_ratio, d.boundary_ratio, card, (0.0, 1.0)),
        true_cfg_scale=_true_cfg_scale(wish.true_cfg_scale, card),
        flow_shift=_optional("flow_shift", wish.flow_shift, d.flow_shift, card, (0.01, 100.0)),
        sample_solver=_solver(wish.sample_solver, card),
        max_sequence_length=_max_sequence_length(wish.max_sequence_length, card),
        seed=_seed(wish.seed, num_outputs),
        loras=_loras(wish.loras or (), card),
        first_frame=wish.first_frame,
        last_frame=wish.last_frame,
        attention_cache=_attention_cache(wish.attention_cache, card),
        num_outputs=num_outputs,
        video=wish.video,
        strength=_strength(wish),
        continues=wish.continues,
    )
    _check_task(request, card)
    _check_source(request, card)
    _check_pixels(request, card)
    return request


def _guidance(wish: Wish, native: Defaults) -> float:
    return native_guidance(native, with_frames=bool(wish.first_frame or wish.last_frame))


def native_guidance(native: Defaults, *, with_frames: bool) -> float:
    """Return the guidance scale of a request that names none, with or without a first or last frame."""
    other = native.guidance_scale_with_frames if with_frames else None
    return native.guidance_scale if other is None else other


def _prompt(prompt: str | None) -> str:
    if prompt is None:
        raise InvalidRequest("Missing required parameter: 'prompt'.", param="prompt")
    if not prompt.strip():
        raise InvalidRequest("The prompt is empty; say what the clip should show.", param="prompt")
    return _text("prompt", prompt)


def _text(name: str, text: str) -> str:
    if len(text) > MAX_PROMPT_CHARS:
        raise InvalidRequest(
            f"The {name} has {len(text)} characters; at most {MAX_PROMPT_CHARS} are allowed.", param=name
        )
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):  # what no file or database takes
        raise InvalidRequest(f"The {name} holds half of a surrogate pair; send well-formed text.", param=name)
    if "\0" in text:  # some databases end a text there, others refuse it
        raise InvalidRequest(f"The {name} holds a null character; leave it out.", param=name)
    return text


def _in_range(name: str, given: float | None, default: float, low: float, high: float) -> float:
    value = default if given is None else given
    if not low <= value <= high:  # true of NaN, too
        allowed = _shown(low) if low == high else f"from {_shown(low)} to {_shown(high)}"
        raise InvalidRequest(f"{name} is {_shown(value)}; it must be {allowed}.", param=name)
    return value


def _shown(value: float) -> str:
    """Write whole numbers in full: seeds have nineteen digits."""
    return str(value) if isinstance(value, int) else f"{value:g}"


def _optional(
    name: str, given: float | None, default: float | None, card: ModelCard, bounds: tuple[float, float]
) -> float | None:
    if default is None:
        if given is not None:
            raise InvalidRequest(f"{card.name} has no {name}; leave it out.", param=name)
        return None
    return float(_in_range(name, given, default, *bounds))


def _true_cfg_scale(given: float | None, card: ModelCard) -> float | None:
    """Check the scale of true guidance; 1 asks for nothing, so that every model grants it."""
    default = card.defaults.true_cfg_scale
    if given == 1.0 and default is None:
        return None
    return _optional("true_cfg_scale", given, default, card, (1.0, 20.0))


def _nearest(value: int, step: int, offset: int, high: int) -> str:
    """Name the allowed values (step * k + offset) on both sides of `value`."""
    below = max((value - offset) // step, 0) * step + offset
    choices = [v for v in (below, below + step) if max(offset, 1) <= v <= high]
    return " or ".join(str(v) for v in choices) or str(high)


def _size(name: str, given: int | None, default: int, rules: Rules) -> int:
    value = default if given is None else given
    m = rules.size_multiple
    side = rules.max_height if name == "height" else rules.max_width
    longest = rules.max_pixels // m  # the other side is at least one multiple
    if side is not None:
        longest = min(longest, side)
    if value < m or value % m or value > longest:
        near = _nearest(min(max(value, m), longest), m, 0, longest - longest % m)
        at_most = f" and at most {longest}" if value > longest else ""
        raise InvalidRequest(
            f"{name} is {value}; it must be a multiple of {m}{at_most}, for example {near}.", param=name
        )
    return value


def makes_size(rules: Rules, width: int, height: int) -> bool:
    """Whether the model makes clips of exactly this size."""
    longest = (rules.max_width or width, rules.max_height or height)
    fits = all(
        side >= rules.size_multiple and side % rules.size_multiple == 0 and side <= most
        for side, most in zip((width, height), longest, strict=True)
    )
    listed = not rules.sizes or (height, width) in rules.sizes
    return fits and listed and width * height <= rules.max_pixels


def _num_frames(wish: Wish, card: ModelCard) -> int:
    rules, stride = card.rules, card.rules.frame_stride
    if wish.num_frames is None and wish.seconds is not None:
        seconds = _in_range("seconds", wish.seconds, 0.0, 0.01, 3600.0)
        fps = _in_range("fps", wish.fps, card.defaults.fps, MIN_FPS, MAX_FPS)
        joint = wish.continues is not None  # the first frame is there already and adds nothing
        strides = max(round((seconds * fps - 1 + joint) / stride), int(joint))
        if strides * stride + 1 > rules.max_frames:
            limit = (rules.max_frames - joint) / fps
            raise InvalidRequest(
                f"seconds is {seconds:g}; at {fps:g} fps {card.name} makes at most {limit:.2f} seconds.",
                param="seconds",
            )
        return strides * stride + 1
    value = card.defaults.num_frames if wish.num_frames is None else wish.num_frames
    if value < 1 or (value - 1) % stride or value > rules.max_frames:
        near = _nearest(min(max(value, 1), rules.max_frames), stride, 1, rules.max_frames)
        raise InvalidRequest(
            f"num_frames is {value}; it must be {stride}*k+1 and at most {rules.max_frames}: use {near}.",
            param="num_frames",
        )
    return value


def _seed(given: int | None, num_outputs: int) -> int:
    """Return the first output's seed, drawn if none is given; the others follow it."""
    if given is None:
        return secrets.randbelow(2**31)
    seed = int(_in_range("seed", given, 0, 0, MAX_SEED))
    if seed > MAX_SEED - (num_outputs - 1):
        raise InvalidRequest(
            f"seed is {seed}; {num_outputs} clips take the seeds from there on, none above {MAX_SEED}.",
            param="seed",
        )
    return seed


def _solver(given: str | None, card: ModelCard) -> str | None:
    if given is None:
        return card.defaults.sample_solver
    if given not in card.rules.solvers:
        known = ", ".join(repr(s) for s in card.rules.solvers) or "none to choose from"
        raise InvalidRequest(
            f"sample_solver is {given!r}; the solvers of {card.name} are {known}.", param="sample_solver"
        )
    return given


def _loras(given: tuple[tuple[str, float], ...], card: ModelCard) -> tuple[tuple[str, float], ...]:
    names = [name for name, _ in given]
    for name in names:
        if name not in card.adapters:
            known = ", ".join(repr(a) for a in card.adapters) or "none; the operator registers them"
            raise InvalidRequest(
                f"lora {name[:80]!r} is not registered here; the adapters of {card.name} are {known}.",
                param="lora",
            )
        if names.count(name) > 1:
            raise InvalidRequest(f"lora {name!r} is given more than once; give it one scale.", param="lora")
    return tuple(
        (name, float(_in_range("lora", scale, 1.0, -MAX_LORA_SCALE, MAX_LORA_SCALE))) for name, scale in given
    )


def _max_sequence_length(given: int | None, card: ModelCard) -> int | None:
    native, limit = card.defaults.max_sequence_length, card.rules.max_sequence_length
    if given is None or given == native:
        return native
    if limit is None:
        raise InvalidRequest(
            f"{card.name} has no max_sequence_length; leave it out.", param="max_sequence_length"
        )
    return int(_in_range("max_sequence_length", given, limit, card.rules.min_sequence_length, limit))


def _attention_cache(given: AttentionCache | None, card: ModelCard) -> AttentionCache | None:
    name = "attention_cache"
    if given is None:
        return None
    if card.rules.attention_cache_token_bytes is None:
        raise InvalidRequest(f"{card.name} has no attention cache; leave {name} out.", param=name)
    _in_range(f"{name}.start_step", given.start_step, 0, 0, MAX_SEED)
    _in_range(f"{name}.interval", given.interval, 1, 1, MAX_SEED)
    if not given.start_step <= given.end_step <= MAX_SEED:
        raise InvalidRequest(
            f"{name}.end_step is {given.end_step}; it must not be before start_step ({given.start_step}).",
            param=name,
        )
    return given


def _strength(wish: Wish) -> float | None:
    if wish.video is not None:
        return float(_in_range("strength", wish.strength, DEFAULT_STRENGTH, 0.0, 1.0))
    if wish.strength is not None:
        raise InvalidRequest(
            "strength says how much of a clip is made anew, and none is given; give one as video.",
            param="strength",
        )
    return None


# What a task is made from, and the field that a refusal of it is about.
_MADE_FROM: dict[Task, tuple[str, str]] = {
    "t2v": ("a prompt alone", "input_reference"),
    "i2v": ("a first frame", "input_reference"),
    "flf2v": ("a first and a last frame", "last_frame_reference"),
    "v2v": ("a clip", "video"),
}


def _check_task(request: GenerationRequest, card: ModelCard) -> None:
    if request.last_frame is not None and request.first_frame is None:
        raise InvalidRequest("A last frame needs a first frame beside it.", param="last_frame_reference")
    if request.continues is not None and (request.task not in card.tasks or card.makes_sound):
        why = "its sound cannot be joined" if card.makes_sound else f"it does {', '.join(card.tasks)}"
        raise InvalidRequest(f"{card.name} cannot continue a clip; {why}.", param="video")
    if request.task not in card.tasks:
        what, param = _MADE_FROM[request.task]
        raise InvalidRequest(
            f"{card.name} cannot generate from {what}; it does {', '.join(card.tasks)}.", param=param
        )


def _check_source(request: GenerationRequest, card: ModelCard) -> None:
    """Check what is asked of a source clip beyond what any clip is asked."""
    if request.video is not None and request.first_frame is not None:
        raise InvalidRequest(
            "A clip is made anew from a clip or from pictures; give one of them.", param="video"
        )
    if request.num_steps < 1:
        least = math.ceil(1e4 / request.num_inference_steps) / 1e4
        raise InvalidRequest(
            f"strength is {request.strength:g}, which of {request.num_inference_steps} steps leaves none; "
            f"it must be at least {least:g}.",
            param="strength",
        )
    if request.continues is not None and request.num_frames == 1:
        raise InvalidRequest(
            f"num_frames is 1, and that frame is the clip's own last one; use {card.rules.frame_stride + 1}.",
            param="num_frames",
        )


def _check_pixels(request: GenerationRequest, card: ModelCard) -> None:
    sizes = card.rules.sizes
    if sizes and (request.height, request.width) not in sizes:
        choices = " or ".join(f"{width}x{height}" for height, width in sizes)
        raise InvalidRequest(
            f"size is {request.width}x{request.height}; {card.name} makes {choices} only.", param="size"
        )
    pixels, limit = request.height * request.width, card.rules.max_pixels
    if pixels > limit:
        raise InvalidRequest(
            f"size is {request.width}x{request.height} ({pixels} pixels); {card.name} makes at most {limit} "
            f"pixels, for example {card.defaults.width}x{card.defaults.height}.",
            param="size",
        )

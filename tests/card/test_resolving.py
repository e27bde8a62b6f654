from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitascope.card import Defaults, ModelCard, Rules, Wish, resolve
from vitascope.card.resolving import MAX_PROMPT_CHARS, MAX_SEED
from vitascope.errors import InvalidRequest
from vitascope.request import AttentionCache, Continuation, GenerationRequest

CARD = ModelCard(
    name="tiny",
    family="wan",
    tasks=("t2v", "i2v"),
    defaults=Defaults(
        height=480,
        width=832,
        num_frames=81,
        fps=16,
        num_inference_steps=50,
        guidance_scale=5.0,
        flow_shift=3.0,
        negative_prompt="blurry",
        sample_solver="unipc",
        max_sequence_length=512,
    ),
    rules=Rules(
        size_multiple=16,
        frame_stride=4,
        max_pixels=480 * 832,
        max_frames=121,
        solvers=("unipc", "euler"),
        max_sequence_length=512,
    ),
    identity="abc",
)
PLAIN = replace(
    CARD,
    tasks=("t2v",),
    defaults=replace(CARD.defaults, flow_shift=None, sample_solver=None, max_sequence_length=None),
    rules=replace(CARD.rules, solvers=(), max_sequence_length=None),
)
FRAMES = replace(CARD, defaults=replace(CARD.defaults, guidance_scale_with_frames=2.0))
SECOND = replace(CARD, defaults=replace(CARD.defaults, guidance_scale_2=4.0))
DISTILLED = replace(
    CARD,
    defaults=replace(CARD.defaults, true_cfg_scale=1.0, num_inference_steps=8),
    rules=replace(CARD.rules, min_steps=8, max_steps=8),
)
BOUNDED = replace(CARD, rules=replace(CARD.rules, max_height=480, max_width=832))
CACHING = replace(CARD, rules=replace(CARD.rules, attention_cache_token_bytes=64))
ANEW = replace(CARD, tasks=("t2v", "v2v"))
CONTINUED = Continuation(clip="c", num_frames=17)
FIXED = replace(CARD, rules=replace(CARD.rules, sizes=((480, 832), (320, 512))))


def ask(card=CARD, **wish):
    return resolve(Wish(**{"prompt": "a cat", **wish}), card)


@pytest.mark.parametrize(
    ("card", "given", "guidance"),
    [
        (FRAMES, {}, 5.0),
        (FRAMES, {"first_frame": "a.png"}, 2.0),
        (FRAMES, {"first_frame": "a.png", "guidance_scale": 3.0}, 3.0),
        (CARD, {"first_frame": "a.png"}, 5.0),
    ],
)
def test_a_model_may_want_another_guidance_where_frames_are_given(card, given, guidance):
    assert resolve(Wish(prompt="a wave", **given), card).guidance_scale == guidance


def test_what_is_not_said_is_the_models_native_value():
    request = ask(seed=3)
    assert request == GenerationRequest(
        model="tiny",
        prompt="a cat",
        negative_prompt="blurry",
        height=480,
        width=832,
        num_frames=81,
        fps=16,
        num_inference_steps=50,
        guidance_scale=5.0,
        flow_shift=3.0,
        sample_solver="unipc",
        max_sequence_length=512,
        seed=3,
    )


def test_what_is_said_is_kept_to_the_bit():
    said = {
        "prompt": "a dog",
        "negative_prompt": "",
        "height": 16,
        "width": 1008,
        "num_frames": 1,
        "fps": 23.976,
        "num_inference_steps": 200,
        "guidance_scale": 0.0,
        "flow_shift": 0.1 + 0.2,
        "sample_solver": "euler",
        "max_sequence_length": 1,
        "seed": MAX_SEED,
        "first_frame": "k.png",
    }
    request = ask(**said)
    assert {name: getattr(request, name) for name in said} == said


def test_a_model_without_a_setting_makes_requests_without_it():
    request = ask(PLAIN)
    assert (request.flow_shift, request.sample_solver, request.max_sequence_length) == (None, None, None)


REFUSALS = [
    (CARD, {"prompt": None}, "prompt", "Missing required parameter: 'prompt'."),
    (CARD, {"prompt": " \n"}, "prompt", "The prompt is empty; say what the clip should show."),
    (CARD, {"prompt": "x" * 32_001}, "prompt", "The prompt has 32001 characters; at most 32000 are allowed."),
    (
        CARD,
        {"prompt": "a\ud800"},
        "prompt",
        "The prompt holds half of a surrogate pair; send well-formed text.",
    ),
    (CARD, {"prompt": "a\0b"}, "prompt", "The prompt holds a null character; leave it out."),
    (
        CARD,
        {"negative_prompt": "x" * 32_001},
        "negative_prompt",
        "The negative_prompt has 32001 characters; at most 32000 are allowed.",
    ),
    (CARD, {"height": 481}, "height", "height is 481; it must be a multiple of 16, for example 480 or 496."),
    (CARD, {"width": 0}, "width", "width is 0; it must be a multiple of 16, for example 16 or 32."),
    (CARD, {"width": -832}, "width", "width is -832; it must be a multiple of 16, for example 16 or 32."),
    (
        BOUNDED,
        {"height": 496},
        "height",
        "height is 496; it must be a multiple of 16 and at most 480, for example 480.",
    ),
    (
        CARD,
        {"height": 496, "width": 832},
        "size",
        "size is 832x496 (412672 pixels); tiny makes at most 399360 pixels, for example 832x480.",
    ),
    (FIXED, {"height": 320}, "size", "size is 832x320; tiny makes 832x480 or 512x320 only."),
    (
        CARD,
        {"num_frames": 80},
        "num_frames",
        "num_frames is 80; it must be 4*k+1 and at most 121: use 77 or 81.",
    ),
    (CARD, {"num_frames": 0}, "num_frames", "num_frames is 0; it must be 4*k+1 and at most 121: use 1 or 5."),
    (
        CARD,
        {"num_frames": 1001},
        "num_frames",
        "num_frames is 1001; it must be 4*k+1 and at most 121: use 121.",
    ),
    (CARD, {"seconds": 60}, "seconds", "seconds is 60; at 16 fps tiny makes at most 7.56 seconds."),
    (CARD, {"seconds": 0}, "seconds", "seconds is 0; it must be from 0.01 to 3600."),
    (CARD, {"seconds": 1, "fps": 0}, "fps", "fps is 0; it must be from 1.0 to 120.0."),
    (CARD, {"fps": 121}, "fps", "fps is 121; it must be from 1.0 to 120.0."),
    (CARD, {"fps": math.nan}, "fps", "fps is nan; it must be from 1.0 to 120.0."),
    (
        CARD,
        {"num_inference_steps": 0},
        "num_inference_steps",
        "num_inference_steps is 0; it must be from 1 to 200.",
    ),
    (DISTILLED, {"num_inference_steps": 9}, "num_inference_steps", "num_inference_steps is 9; it must be 8."),
    (CARD, {"guidance_scale": 20.5}, "guidance_scale", "guidance_scale is 20.5; it must be from 0 to 20."),
    (CARD, {"guidance_scale": math.inf}, "guidance_scale", "guidance_scale is inf; it must be from 0 to 20."),
    (CARD, {"guidance_scale_2": 3.0}, "guidance_scale_2", "tiny has no guidance_scale_2; leave it out."),
    (
        SECOND,
        {"guidance_scale_2": -1.0},
        "guidance_scale_2",
        "guidance_scale_2 is -1; it must be from 0 to 20.",
    ),
    (CARD, {"true_cfg_scale": 3.0}, "true_cfg_scale", "tiny has no true_cfg_scale; leave it out."),
    (PLAIN, {"flow_shift": 3.0}, "flow_shift", "tiny has no flow_shift; leave it out."),
    (CARD, {"flow_shift": 0.0}, "flow_shift", "flow_shift is 0; it must be from 0.01 to 100."),
    (
        CARD,
        {"sample_solver": "ddim"},
        "sample_solver",
        "sample_solver is 'ddim'; the solvers of tiny are 'unipc', 'euler'.",
    ),
    (
        PLAIN,
        {"sample_solver": "x"},
        "sample_solver",
        "sample_solver is 'x'; the solvers of tiny are none to choose from.",
    ),
    (
        PLAIN,
        {"max_sequence_length": 9},
        "max_sequence_length",
        "tiny has no max_sequence_length; leave it out.",
    ),
    (
        replace(CARD, rules=replace(CARD.rules, min_sequence_length=12)),
        {"max_sequence_length": 11},
        "max_sequence_length",
        "max_sequence_length is 11; it must be from 12 to 512.",
    ),
    (
        CARD,
        {"max_sequence_length": 513},
        "max_sequence_length",
        "max_sequence_length is 513; it must be from 1 to 512.",
    ),
    (CARD, {"seed": -1}, "seed", "seed is -1; it must be from 0 to 9223372036854775807."),
    (CARD, {"seed": 2**63}, "seed", "seed is 9223372036854775808; it must be from 0 to 9223372036854775807."),
    (CARD, {"seed": 10**400}, "seed", f"seed is {10**400}; it must be from 0 to 9223372036854775807."),
    (CARD, {"last_frame": "k.png"}, "last_frame_reference", "A last frame needs a first frame beside it."),
    (
        PLAIN,
        {"first_frame": "k.png"},
        "input_reference",
        "tiny cannot generate from a first frame; it does t2v.",
    ),
    (
        CARD,
        {"first_frame": "k.png", "last_frame": "l.png"},
        "last_frame_reference",
        "tiny cannot generate from a first and a last frame; it does t2v, i2v.",
    ),
    (CARD, {"num_outputs": 0}, "num_outputs", "num_outputs is 0; it must be from 1 to 10."),
    (CARD, {"num_outputs": 11}, "num_outputs", "num_outputs is 11; it must be from 1 to 10."),
    (
        CARD,
        {"num_outputs": 3, "seed": MAX_SEED - 1},
        "seed",
        f"seed is {MAX_SEED - 1}; 3 clips take the seeds from there on, none above {MAX_SEED}.",
    ),
    (CARD, {"video": "c"}, "video", "tiny cannot generate from a clip; it does t2v, i2v."),
    (
        ANEW,
        {"strength": 0.5},
        "strength",
        "strength says how much of a clip is made anew, and none is given; give one as video.",
    ),
    (ANEW, {"video": "c", "strength": 1.1}, "strength", "strength is 1.1; it must be from 0 to 1."),
    (
        ANEW,
        {"video": "c", "strength": 0.03, "num_inference_steps": 30},
        "strength",
        "strength is 0.03, which of 30 steps leaves none; it must be at least 0.0334.",
    ),
    (
        ANEW,
        {"video": "c", "first_frame": "k"},
        "video",
        "A clip is made anew from a clip or from pictures; give one of them.",
    ),
    (
        PLAIN,
        {"first_frame": "k", "continues": CONTINUED},
        "video",
        "tiny cannot continue a clip; it does t2v.",
    ),
    (
        replace(CARD, makes_sound=True),
        {"first_frame": "k", "continues": CONTINUED},
        "video",
        "tiny cannot continue a clip; its sound cannot be joined.",
    ),
    (
        CARD,
        {"first_frame": "k", "continues": CONTINUED, "num_frames": 1},
        "num_frames",
        "num_frames is 1, and that frame is the clip's own last one; use 5.",
    ),
    (
        CARD,
        {"first_frame": "k", "continues": CONTINUED, "seconds": 8},
        "seconds",
        "seconds is 8; at 16 fps tiny makes at most 7.50 seconds.",
    ),
    (
        replace(CARD, tasks=("i2v",)),
        {},
        "input_reference",
        "tiny cannot generate from a prompt alone; it does i2v.",
    ),
]


@pytest.mark.parametrize(
    ("card", "wish", "param", "message"), REFUSALS, ids=[f"{n}-{row[2]}" for n, row in enumerate(REFUSALS)]
)
def test_a_refusal_names_the_field_what_was_given_and_what_would_do(card, wish, param, message):
    with pytest.raises(InvalidRequest) as caught:
        ask(card, **wish)
    assert (caught.value.param, caught.value.message) == (param, message.replace("1.0 to 120.0", "1 to 120"))


def test_a_prompt_of_the_largest_length_is_taken():
    assert len(ask(prompt="x" * MAX_PROMPT_CHARS).prompt) == MAX_PROMPT_CHARS


@pytest.mark.parametrize(
    ("seconds", "fps", "num_frames"),
    [(5, None, 81), (5, 8.0, 41), (0.01, None, 1), (1, 24.0, 25), (4, 12.5, 49)],
)
def test_seconds_become_the_nearest_length_the_model_makes(seconds, fps, num_frames):
    assert ask(seconds=seconds, fps=fps).num_frames == num_frames


def test_a_number_of_frames_beats_seconds():
    assert ask(num_frames=5, seconds=5).num_frames == 5


def test_a_true_cfg_scale_of_one_asks_for_nothing_and_is_granted_everywhere():
    assert ask(true_cfg_scale=1.0).true_cfg_scale is None
    assert ask(DISTILLED, true_cfg_scale=2.0).true_cfg_scale == 2.0


def test_a_random_seed_is_decided_once_and_differs():
    assert len({ask().seed for _ in range(20)}) > 15


def test_several_outputs_have_seeds_that_follow_the_first():
    request = resolve(Wish(prompt="p", seed=7, num_outputs=3), CARD)
    assert (request.num_outputs, request.all_steps) == (3, 3 * request.num_inference_steps)
    assert [request.output(i) for i in range(3)] == [
        resolve(Wish(prompt="p", seed=seed), CARD) for seed in (7, 8, 9)
    ]
    drawn = resolve(Wish(prompt="p", num_outputs=10), CARD)
    assert 0 <= drawn.seed <= MAX_SEED - 9


@settings(max_examples=200)
@given(st.integers(-50, 2000), st.integers(-50, 2000), st.integers(-50, 300))
def test_whatever_is_granted_obeys_the_rules_and_whatever_would_do_does(height, width, num_frames):
    try:
        request = ask(height=height, width=width, num_frames=num_frames)
    except InvalidRequest as refusal:
        assert refusal.param in {"height", "width", "num_frames", "size"}  # noqa: PT017
        return
    assert (request.height, request.width, request.num_frames) == (height, width, num_frames)
    assert height % 16 == width % 16 == 0
    assert height * width <= CARD.rules.max_pixels
    assert num_frames % 4 == 1
    assert num_frames <= CARD.rules.max_frames


@pytest.mark.parametrize("field", ["height", "width", "num_frames"])
@given(value=st.integers(-100, 3000))
def test_every_value_that_a_refusal_suggests_is_taken(field, value):
    small = {"height": 16, "width": 16, "num_frames": 1}
    try:
        ask(**small | {field: value})
    except InvalidRequest as refusal:
        _, _, advice = refusal.message.rpartition("use " if field == "num_frames" else "for example ")
        for suggestion in advice.rstrip(".").split(" or "):
            ask(**small | {field: int(suggestion)})


def test_equal_requests_are_written_alike_whether_their_numbers_came_whole_or_not():
    whole = ask(SECOND, fps=8, guidance_scale=5, guidance_scale_2=4, flow_shift=3, seed=1)
    assert repr(whole) == repr(
        ask(SECOND, fps=8.0, guidance_scale=5.0, guidance_scale_2=4.0, flow_shift=3.0, seed=1)
    )


def test_a_request_holds_every_wish():
    wished = {field.name for field in fields(Wish)} - {"seconds"}
    assert wished < {field.name for field in fields(GenerationRequest)}


@pytest.mark.parametrize(
    ("steps", "strength", "taken"),
    [(50, None, 40), (50, 1.0, 50), (3, 0.34, 1), (50, 0.58, 28), (30, 0.0334, 1)],
)
def test_strength_takes_the_last_steps_of_the_schedule(steps, strength, taken):
    request = ask(ANEW, video="c", strength=strength, num_inference_steps=steps, num_outputs=2)
    assert (request.task, request.num_steps, request.all_steps) == ("v2v", taken, 2 * taken)
    assert request.strength == (strength or 0.8)


@pytest.mark.parametrize(
    ("wish", "made"),
    [({"seconds": 1}, 17), ({"seconds": 0.01}, 5), ({"seconds": 7.5}, 121), ({"num_frames": 9}, 9), ({}, 81)],
)
def test_a_continuation_adds_what_it_makes_but_for_the_joint(wish, made):
    request = ask(first_frame="k", continues=CONTINUED, **wish)
    assert (request.task, request.num_frames, request.total_frames) == ("i2v", made, 17 + made - 1)
    assert request.duration_s == (16 + made) / 16
    assert request.input_keys == ("k", "c")


def cache(start_step, interval, end_step):
    return AttentionCache(start_step=start_step, interval=interval, end_step=end_step)


def test_an_attention_cache_is_kept_as_it_was_said():
    assert ask(CACHING, attention_cache=cache(12, 4, 37)).attention_cache == cache(12, 4, 37)
    assert ask(CACHING).attention_cache is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (cache(-1, 4, 37), "attention_cache.start_step is -1"),
        (cache(1, 0, 37), "attention_cache.interval is 0"),
        (cache(12, 4, 11), "attention_cache.end_step is 11; it must not be before start_step (12)"),
        (cache(1, 4, 2**63), "attention_cache.end_step"),
    ],
)
def test_an_attention_cache_that_makes_no_sense_is_refused(given, message):
    with pytest.raises(InvalidRequest) as refusal:
        ask(CACHING, attention_cache=given)
    assert refusal.value.message.startswith(message)
    assert refusal.value.param.partition(".")[0] == "attention_cache"


def test_an_attention_cache_is_refused_where_the_model_has_none():
    with pytest.raises(InvalidRequest, match="tiny has no attention cache"):
        ask(CARD, attention_cache=cache(12, 4, 37))

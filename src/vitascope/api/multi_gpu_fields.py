"""What the Multi-GPU FastAPI dialect's bodies hold, its ranges, and how a submit becomes a wish.

What is not said is the served model's own value.
"""

from __future__ import annotations

import json
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from vitascope.api.intake import Body
from vitascope.api.pictures import one_source
from vitascope.api.reading import Reading
from vitascope.api.request_schema import PICTURE, PROMPT
from vitascope.card import ModelCard, Wish
from vitascope.errors import InvalidRequest, Malformed, nearest
from vitascope.request import AttentionCache

M = TypeVar("M", bound=BaseModel)

MIN_FRAMES, MAX_FRAMES = 24, 120
SIZE_MULTIPLE = 8
NUMBERS = (
    "seed",
    "num_frames",
    "guidance_scale",
    "infer_steps",
    "sample_shift",
    "start_step",
    "attentioncache_interval",
    "end_step",
    "cfg_size",
    "ulysses_size",
)
SOLVERS = {"unipc": "unipc", "dpmpp": "dpm++", "euler": "euler"}
# How the server was launched; a request may say so, and cannot change it.
LAUNCHED = {"t5_fsdp": False, "dit_fsdp": False, "vae_parallel": False, "cfg_size": 1, "ulysses_size": 1}
FITTED = "image_url is scaled to cover the clip's size and cut to it."

_LAUNCH = "Fixed when the server was launched; another value is refused."


class Submit(BaseModel):
    """The body of `/video/submit`."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="A served model or an alias; the default one if left out.")
    prompt: str = Field(min_length=10, max_length=500)
    image_url: str = Field(
        description="The first frame, of any size: a data: URL, or another where the operator allows it."
    )
    image_size: str | None = Field(
        None,
        pattern=r"^([1-9][0-9]{0,4}\*[1-9][0-9]{0,4}|auto)$",
        description="WIDTH*HEIGHT, or auto for the model's own.",
    )
    negative_prompt: str | None = Field(None, max_length=500)
    seed: int | None = Field(None, ge=0, le=2**31 - 1, description="Random if left out.")
    num_frames: int | None = Field(
        None, json_schema_extra={"minimum": MIN_FRAMES, "maximum": MAX_FRAMES}, description="Frames, 4k+1."
    )
    guidance_scale: float | None = Field(None, ge=1, le=20)
    infer_steps: int | None = Field(None, ge=20, le=100)
    sample_shift: float | None = Field(None, ge=0.1, le=10)
    sample_solver: Literal["unipc", "dpmpp", "euler"] | None = None
    use_attentioncache: bool | None = Field(
        None, description="Take self-attention from earlier steps: faster, less exact."
    )
    start_step: int | None = Field(None, ge=0, description="First step that others take from; 12.")
    attentioncache_interval: int | None = Field(None, ge=1, description="Every so many steps compute; 4.")
    end_step: int | None = Field(None, ge=1, description="Last step that takes from others; 37.")
    t5_fsdp: bool | None = Field(None, description=_LAUNCH)
    dit_fsdp: bool | None = Field(None, description=_LAUNCH)
    vae_parallel: bool | None = Field(None, description=_LAUNCH)
    cfg_size: int | None = Field(None, ge=1, description=_LAUNCH)
    ulysses_size: int | None = Field(None, ge=1, description=_LAUNCH)

    @field_validator(*NUMBERS, mode="before")
    @classmethod
    def _no_flag(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise PydanticCustomError("number", "Input should be a number, not a boolean")
        return value


class TaskId(BaseModel):
    """The body of `/video/status` and `/video/cancel`."""

    model_config = ConfigDict(extra="forbid")

    request_id: str = Field(alias="requestId", min_length=32, max_length=32)


EXAMPLES: dict[type[BaseModel], dict[str, Any]] = {
    Submit: {"prompt": PROMPT, "image_url": PICTURE, "image_size": "auto", "infer_steps": 20, "seed": 1},
    TaskId: {"requestId": "0123456789abcdef0123456789abcdef"},
}


def read_fields(kind: type[M], body: Body) -> M:
    """Check a body against the dialect's own rules.

    Raises:
        Malformed: names every field that breaks one.

    """
    known = [field.alias or name for name, field in kind.model_fields.items()]
    for name in body.files:
        raise Malformed(f"{_shown(name)} is an upload; send pictures as data: URLs.", param=_shown(name))
    for name in body.fields:
        if name not in known:
            raise Malformed(f"Unknown field {_shown(name)!r}{nearest(name, known)}", param=_shown(name))
    try:
        return kind.model_validate(body.fields)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        sentences = [f"{each['loc'][0]}: {each['msg']}." for each in found]
        raise Malformed(" ".join(sentences), param=str(found[0]["loc"][0])) from None


def read_submit(asked: Submit, card: ModelCard) -> Reading:
    """Turn a submit into a wish for one model.

    Raises:
        Malformed: a size, length or cache that breaks the dialect's own rules.
        InvalidRequest: what this model or this launch cannot do.

    """
    _check_launched(asked)
    width, height = _size(asked.image_size)
    wish = Wish(
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt,
        width=width,
        height=height,
        num_frames=_num_frames(asked.num_frames, card),
        num_inference_steps=asked.infer_steps,
        guidance_scale=asked.guidance_scale,
        flow_shift=asked.sample_shift,
        sample_solver=None if asked.sample_solver is None else SOLVERS[asked.sample_solver],
        seed=asked.seed,
        attention_cache=_attention_cache(asked),
    )
    return Reading(
        wish=wish,
        first_frame=one_source(("image_url",), {"image_url": asked.image_url}, {}),
        resize_mode="crop",  # the dialect takes pictures of any size
        warnings=(FITTED,),
    )


def _shown(name: str) -> str:
    return name[:80].encode(errors="replace").decode()


def _check_launched(asked: Submit) -> None:
    for name, launched in LAUNCHED.items():
        given = getattr(asked, name)
        if given is not None and given != launched:
            raise InvalidRequest(
                f"{name} is {json.dumps(given)}; this server was launched with {json.dumps(launched)}, and a "
                "request cannot change it.",
                param=name,
            )


def _size(given: str | None) -> tuple[int | None, int | None]:
    if given is None or given == "auto":
        return None, None
    width, height = map(int, given.split("*"))
    for side in (width, height):
        if side % SIZE_MULTIPLE:
            raise Malformed(
                f"image_size is {given}; width and height must be multiples of {SIZE_MULTIPLE}.",
                param="image_size",
            )
    return width, height


def _num_frames(given: int | None, card: ModelCard) -> int | None:
    """Check the length against the dialect's range and the model's rule at once: advice must fit both."""
    stride, longest = card.rules.frame_stride, min(MAX_FRAMES, card.rules.max_frames)
    fits = [n for n in range(MIN_FRAMES, longest + 1) if (n - 1) % stride == 0]
    if given is None or given in fits:
        return given
    near = [*[n for n in fits if n < given][-1:], *[n for n in fits if n > given][:1]]
    advice = f"use {' or '.join(map(str, near))}" if near else f"leave it out for {card.defaults.num_frames}"
    kind = InvalidRequest if MIN_FRAMES <= given <= MAX_FRAMES else Malformed
    raise kind(
        f"num_frames is {given}; it must be from {MIN_FRAMES} to {MAX_FRAMES}, and {card.name} makes "
        f"{stride}*k+1 frames, at most {card.rules.max_frames}: {advice}.",
        param="num_frames",
    )


def _attention_cache(asked: Submit) -> AttentionCache | None:
    if not asked.use_attentioncache:
        return None
    start = 12 if asked.start_step is None else asked.start_step
    end = 37 if asked.end_step is None else asked.end_step
    if end < start:
        raise Malformed(f"end_step is {end}; it must not be before start_step, {start}.", param="end_step")
    interval = 4 if asked.attentioncache_interval is None else asked.attentioncache_interval
    return AttentionCache(start_step=start, interval=interval, end_step=end)

"""From a body's fields to a wish: applies the table of `fields.py`, so that nothing is dropped in silence."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from vitascope.api.fields import FIELDS, VIDEO_FIELDS, Known, Use
from vitascope.api.intake import Body
from vitascope.api.pictures import CLIP, Source, one_source
from vitascope.api.values import INTEGER, wrong_type
from vitascope.card import MAX_OUTPUTS, ModelCard, Wish, native_guidance
from vitascope.errors import InvalidRequest, UnknownField
from vitascope.media.clip_decoding import is_clip
from vitascope.media.inputs import RESIZE_MODES

FIRST_FRAME_FIELDS = ("input_reference", "image_reference", "reference_url")
LAST_FRAME_FIELDS = ("last_frame_reference", "last_input_reference")
# A request of nothing else is in OpenAI's words, where a picture has the clip's size; elsewhere it is fitted.
OPENAI_FIELDS = frozenset(
    {"prompt", "model", "seconds", "size", "video", *FIRST_FRAME_FIELDS, *LAST_FRAME_FIELDS}
)
FITTED = "A picture of another size than the clip's covers it and is cut to it; resize_mode says otherwise."
COUNT_FIELDS = ("n", "num_outputs_per_prompt")
BAGS = frozenset(name for name, known in FIELDS.items() if known.use is Use.BAG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a body said, understood: the wish without its pictures, the pictures, and what to tell the caller.

    `video` is a clip that is made anew, or that goes on if the request `continues` it. `sized_by` names the
    field that a refusal of the size is about.
    """

    wish: Wish
    first_frame: Source | None = None
    last_frame: Source | None = None
    video: Source | None = None
    continues: bool = False
    resize_mode: str = "error"
    sized_by: str | None = None
    warnings: tuple[str, ...] = ()


def read_wish(body: Body, card: ModelCard, *, continues: bool = False) -> Reading:
    """Understand a body for one model; one that `continues` a clip begins with its last frame.

    Raises:
        UnknownField: a field that nobody knows; the message names the nearest one.
        InvalidRequest: a field that cannot be read, or that this model cannot honour.

    """
    values = _open_bags(body.fields)
    wishes, warnings = _read_fields(values, card)
    _check_files(body, card)
    wishes |= _size(values, wishes)
    first, video = _first_frame_or_clip(values, body)
    last = one_source(LAST_FRAME_FIELDS, values, body.files)
    warnings += _drop_second_guidance(wishes, card, with_frames=bool(first or last or continues))
    num_outputs = _num_outputs(values)
    _check_sound(values, card)
    _check_task_type(values, first, last, video)
    resize_mode = _resize_mode(values)
    if first is not None and resize_mode != "error" and "resize_mode" not in values:
        warnings.append(FITTED)
    return Reading(
        wish=Wish(
            **wishes,
            num_outputs=num_outputs,
            seed=_seed(values, num_outputs or 1),
            loras=_loras(values),
        ),
        first_frame=first,
        last_frame=last,
        video=video,
        continues=continues,
        resize_mode=resize_mode,
        sized_by="size" if "size" in values else None,
        warnings=tuple(warnings),
    )


def _read_fields(values: dict[str, Any], card: ModelCard) -> tuple[dict[str, Any], list[str]]:
    """Read what goes to the model, refuse what is not offered; return the warnings of what means nothing."""
    wishes: dict[str, Any] = {}
    warnings: list[str] = []
    for name, value in values.items():
        known = _known(name)
        if known.use is Use.WISH:
            wishes[name] = known.kind.read(name, value)
        elif known.use is Use.INERT:
            warnings.append(f"{name} has no effect here: {known.about}.")
        else:
            _check_offered(name, known, value, card)
    return wishes, warnings


def _check_files(body: Body, card: ModelCard) -> None:
    """Refuse uploads under names that take none."""
    for name in body.files:
        known = _known(name)
        if known.use in {Use.REFUSED, Use.PATH}:
            _check_offered(name, known, b"", card)
        if known.use is not Use.SOURCE:
            raise wrong_type(name, "a plain value", b"")


def _first_frame_or_clip(values: dict[str, Any], body: Body) -> tuple[Source | None, Source | None]:
    """Find the first frame and the clip; vLLM-Omni's clients upload either as the same field."""
    first = one_source(FIRST_FRAME_FIELDS, values, body.files)
    video = one_source(VIDEO_FIELDS, values, body.files, CLIP)
    if first is None or first.data is None or not is_clip(first.data):
        return first, video
    if video is not None:
        raise InvalidRequest(f"Provide only one clip as {video.param} or {first.param}.", param=video.param)
    return None, first


def _open_bags(fields: dict[str, Any]) -> dict[str, Any]:
    """Take the fields out of their bags; a null is a field that was not given."""
    opened: dict[str, Any] = {}
    for name, value in fields.items():
        is_bag = name in BAGS and value is not None
        inner = FIELDS[name].kind.read(name, value) if is_bag else {name: value}
        for key, item in inner.items():
            if is_bag and key in BAGS:
                raise InvalidRequest(f"{name} holds another {key}; give its fields plainly.", param=name)
            if opened.get(key, item) != item:
                raise InvalidRequest(
                    f"The field {key[:80]!r} is given twice, with two values.", param=key[:80]
                )
            if item is not None:
                opened[key] = item
    return opened


def _known(name: str) -> Known:
    known = FIELDS.get(name)
    if known is None:
        match = difflib.get_close_matches(name[:80], FIELDS, n=1)
        meant = f"; did you mean '{match[0]}'?" if match else "; /docs lists the known ones."
        raise UnknownField(f"Unknown parameter: '{name[:80]}'{meant}", param=name[:80])
    return known


def _check_offered(name: str, known: Known, value: Any, card: ModelCard) -> None:
    if known.use is Use.PATH:
        raise InvalidRequest(
            f"{name} is a path on the server, and clients choose none: {known.about}.", param=name
        )
    off = known.use is Use.OFF and known.kind.read(name, value) not in known.harmless
    if off or known.use is Use.REFUSED:
        raise InvalidRequest(f"{card.name} cannot honour {name}: {known.about}.", param=name)


def _check_sound(values: dict[str, Any], card: ModelCard) -> None:
    name = "generate_sound"
    if name in values and FIELDS[name].kind.read(name, values[name]) != card.makes_sound:
        does = "makes sound with every clip" if card.makes_sound else "makes no sound"
        raise InvalidRequest(f"{card.name} {does}; leave {name} out.", param=name)


def _size(values: dict[str, Any], wishes: dict[str, Any]) -> dict[str, int]:
    if "size" not in values:
        return {}
    width, height = FIELDS["size"].kind.read("size", values["size"])
    if wishes.get("width", width) != width or wishes.get("height", height) != height:
        raise InvalidRequest("size contradicts width and height; give one of them.", param="size")
    return {"width": width, "height": height}


def _drop_second_guidance(wishes: dict[str, Any], card: ModelCard, *, with_frames: bool) -> list[str]:
    """Grant a second transformer's guidance where there is none but it asks for the same all along.

    Where both would do the same, the border between them means nothing and is granted, too.
    """
    guidance = wishes.get("guidance_scale", native_guidance(card.defaults, with_frames=with_frames))
    if card.defaults.guidance_scale_2 is not None or wishes.get("guidance_scale_2") != guidance:
        return []
    idle = [name for name in ("guidance_scale_2", "boundary_ratio") if wishes.pop(name, None) is not None]
    return [f"{name} has no effect here: {card.name} has one transformer." for name in idle]


def _seed(values: dict[str, Any], num_outputs: int) -> int | None:
    """Read the first clip's seed; a list must hold every clip's, which follow one another."""
    given = values.get("seed")
    if given is None:
        return None
    if not isinstance(given, list):
        return int(INTEGER.read("seed", given))
    seeds = [int(INTEGER.read("seed", seed)) for seed in given]
    if not seeds or seeds != list(range(seeds[0], seeds[0] + num_outputs)):
        raise InvalidRequest(
            f"seed lists {len(seeds)} values for {num_outputs} clips; give the first clip's seed alone, "
            "from which the others count on.",
            param="seed",
        )
    return seeds[0]


def _loras(values: dict[str, Any]) -> tuple[tuple[str, float], ...] | None:
    return FIELDS["lora"].kind.read("lora", values["lora"]) if "lora" in values else None


def _num_outputs(values: dict[str, Any]) -> int | None:
    """Read the number of clips, which has two names."""
    counts = {name: int(INTEGER.read(name, values[name])) for name in COUNT_FIELDS if name in values}
    for name, count in counts.items():
        if not 1 <= count <= MAX_OUTPUTS:
            raise InvalidRequest(f"{name} is {count}; it must be from 1 to {MAX_OUTPUTS}.", param=name)
    if len(set(counts.values())) > 1:
        raise InvalidRequest("n contradicts num_outputs_per_prompt; give one of them.", param="n")
    return next(iter(counts.values()), None)


def _check_task_type(
    values: dict[str, Any], first: Source | None, last: Source | None, video: Source | None
) -> None:
    if "task_type" not in values:
        return
    given = FIELDS["task_type"].kind.read("task_type", values["task_type"])
    actual = "v2v" if video else "t2v" if first is None else "i2v" if last is None else "flf2v"
    if given.lower() != actual:
        raise InvalidRequest(
            f"task_type is {given[:40]!r}, but what is given makes this {actual}.", param="task_type"
        )


def _resize_mode(values: dict[str, Any]) -> str:
    unsaid = "error" if values.keys() <= OPENAI_FIELDS else "crop"
    mode = FIELDS["resize_mode"].kind.read("resize_mode", values.get("resize_mode", unsaid))
    if mode not in RESIZE_MODES:
        raise InvalidRequest(
            f"Invalid value: {mode[:40]!r}. Supported values are: 'error', 'crop' and 'pad'.",
            param="resize_mode",
        )
    return str(mode)

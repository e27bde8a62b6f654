"""`vitascope.json`: what a model folder says of itself beyond diffusers' files, and the card made of it.

The file is optional; a family's own native values hold where it is silent.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, get_args

from vitascope.card import Defaults, ModelCard, PromptGuide, Rules
from vitascope.errors import CheckpointError
from vitascope.request import Task
from vitascope.weights.checkpoint import Checkpoint, read_json

FILE = "vitascope.json"
_LIMITS = ("height", "width", "num_frames")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The file's content; empty where there is none."""

    name: str | None = None
    tasks: tuple[Task, ...] = ()
    defaults: dict[str, Any]
    limits: dict[str, int]
    known_words: tuple[str, ...] = ()
    example_prompts: tuple[str, ...] = ()

    @classmethod
    def read(cls, checkpoint: Checkpoint) -> Manifest:
        """Read a folder's manifest.

        Raises:
            CheckpointError: a key or task that is not known, or a limit that is no whole number.

        """
        path = checkpoint.root / FILE
        raw = read_json(path) if path.exists() else {}
        _check_keys(FILE, raw, [f.name for f in fields(cls)])
        defaults, limits = raw.get("defaults", {}), raw.get("limits", {})
        _check_keys(f"{FILE}: defaults", defaults, [f.name for f in fields(Defaults)])
        _check_keys(f"{FILE}: limits", limits, list(_LIMITS))
        tasks = tuple(raw.get("tasks", ()))
        _check_keys(f"{FILE}: tasks", dict.fromkeys(tasks), list(get_args(Task)))
        return cls(
            name=raw.get("name"),
            tasks=tasks,
            defaults=defaults,
            limits=limits,
            known_words=tuple(raw.get("known_words", ())),
            example_prompts=tuple(raw.get("example_prompts", ())),
        )


def build_card(
    checkpoint: Checkpoint, family: str, *, tasks: tuple[Task, ...], defaults: Defaults, rules: Rules
) -> ModelCard:
    """Make the card: a family's native values, with the folder's manifest on top of them.

    Raises:
        CheckpointError: the manifest promises a task that the networks cannot do.

    """
    manifest = Manifest.read(checkpoint)
    for task in manifest.tasks:
        if task not in tasks:
            raise CheckpointError(
                f"{FILE} promises {task!r}; the networks in the folder do {', '.join(tasks)}."
            )
    guide = PromptGuide(known_words=manifest.known_words, examples=manifest.example_prompts)
    return ModelCard(
        name=manifest.name or checkpoint.name,
        family=family,
        tasks=manifest.tasks or tasks,
        defaults=replace(defaults, **manifest.defaults),
        rules=_limited(rules, manifest.limits),
        identity=checkpoint.identity(),
        components=checkpoint.component_bytes(),
        prompt_guide=guide if manifest.known_words else None,
    )


def _limited(rules: Rules, limits: dict[str, int]) -> Rules:
    max_pixels, max_frames = rules.max_pixels, rules.max_frames
    if "height" in limits and "width" in limits:
        max_pixels = min(max_pixels, limits["height"] * limits["width"])
    if "num_frames" in limits:
        max_frames = min(max_frames, limits["num_frames"])
    return replace(rules, max_pixels=max_pixels, max_frames=max_frames)


def _check_keys(where: str, given: Any, known: list[str]) -> None:
    if not isinstance(given, dict):
        raise CheckpointError(f"{where} is not a JSON object.")
    for key in given:
        if key not in known:
            raise CheckpointError(f"{where} has an unknown entry {key!r}; known are {', '.join(known)}.")

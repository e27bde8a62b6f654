"""`/v1/models`: the served models and their aliases, each with its card, enough to draw a form from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict

from vitascope.api.builtin_names import known_as
from vitascope.api.errors import refusals
from vitascope.api.services import Services
from vitascope.card import Defaults, ModelCard, PromptGuide, Rules
from vitascope.errors import LaunchFailed, ModelLoading, ModelNotFound, VitascopeError
from vitascope.launch import Instance, InstanceState
from vitascope.request import Task

OWNER = "vitascope"
LOADING_RETRY_AFTER_S = 30  # as Xinference answers
ABILITIES: dict[Task, str] = {  # Xinference's names of what a video model can do
    "t2v": "text2video",
    "i2v": "image2video",
    "flf2v": "firstlastframe2video",
    "v2v": "video2video",
}


def _entry(card: ModelCard, name: str, names: Mapping[str, str], created: int) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": OWNER,
        "root": card.name,
        "model_type": "video",
        "model_name": names.get(card.name, card.name),
        "model_engine": OWNER,
        "model_ability": [ABILITIES[task] for task in card.tasks],
        "family": card.family,
        "tasks": list(card.tasks),
        "defaults": asdict(card.defaults),
        "rules": asdict(card.rules),
        "identity": card.identity,
        "components": card.components,
        "adapters": list(card.adapters),
        "prompt_guide": asdict(card.prompt_guide) if card.prompt_guide else None,
    }


_EXAMPLE: JsonDict = _entry(
    ModelCard(
        name="vitascope-tiny",
        family="wan",
        tasks=("t2v", "i2v", "flf2v"),
        defaults=Defaults(
            height=64, width=64, num_frames=17, fps=8.0, num_inference_steps=10, guidance_scale=2.0
        ),
        rules=Rules(size_multiple=16, frame_stride=4, max_pixels=16384, max_frames=33, solvers=("unipc",)),
        identity="0" * 64,
        components={"transformer": 9_000_000},
    ),
    "vitascope-tiny",
    {},
    created=1758941485,
)


class Model(BaseModel):
    """One served model: OpenAI's keys, Xinference's, then the card."""

    model_config = ConfigDict(protected_namespaces=(), json_schema_extra={"example": _EXAMPLE})

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    model_type: Literal["video"]
    model_name: str
    model_engine: str
    model_ability: list[str]
    family: str
    tasks: list[Task]
    defaults: Defaults
    rules: Rules
    identity: str
    components: dict[str, int]
    adapters: list[str]
    prompt_guide: PromptGuide | None


class ModelList(BaseModel):
    """The served models and their aliases."""

    model_config = ConfigDict(json_schema_extra={"example": {"object": "list", "data": [_EXAMPLE]}})

    object: Literal["list"]
    data: list[Model]


def router(services: Services, *, created: int) -> APIRouter:
    """Make the routes; `created` is the unix time that every model shows."""
    routes = APIRouter(prefix="/v1/models", tags=["Models"])

    @routes.get("", response_model=ModelList)
    async def list_models() -> Response:
        """List the served models."""
        return JSONResponse({"object": "list", "data": list(listing(services, created).values())})

    @routes.get("/{model_uid}", response_model=Model, responses=refusals(400, 404, 503))
    async def retrieve_model(model_uid: str) -> Response:
        """Retrieve one served model, by its name or an alias; one that is being loaded answers 503."""
        entry = listing(services, created).get(model_uid)
        if entry is None:
            raise _absence(services, model_uid)
        return JSONResponse(entry)

    return routes


def listing(services: Services, created: int) -> dict[str, dict[str, Any]]:
    """Return the served models and their aliases by name, as they are listed."""
    cards = services.scheduling.cards()
    names = {instance.uid: shown_name(instance) for instance in services.launching.instances()}
    entries = {card.name: _entry(card, card.name, names, created) for card in cards}
    for name, target in services.settings.aliases:
        card = next((c for c in cards if target in {c.name, None}), None)
        if card is not None:
            entries.setdefault(name, _entry(card, name, names, created))
    return entries


def shown_name(instance: Instance) -> str:
    """Return what a model is called besides its uid: never a path."""
    return instance.spec.name or known_as(instance.spec.model) or instance.model_name


def _absence(services: Services, uid: str) -> VitascopeError:
    """Say why a model is not listed."""
    found = next((each for each in services.launching.instances() if each.uid == uid), None)
    if found is None:
        return ModelNotFound(f"The model '{uid[:80]}' does not exist.", param="model")
    if found.state is InstanceState.ERROR:
        return LaunchFailed(f"{uid} could not be loaded: {found.error}", param="model")
    loading = ModelLoading(
        f"{uid} is being loaded ({found.progress:.0%}). Try again in a moment.", param="model"
    )
    loading.retry_after_s = LOADING_RETRY_AFTER_S
    return loading

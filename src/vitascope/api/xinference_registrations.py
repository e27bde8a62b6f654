"""Xinference's registrations: models that can be launched by name, the operator's and its built-in ones."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, RootModel

from vitascope.api.builtin_names import BUILT_IN, HUB
from vitascope.api.errors import refusals
from vitascope.api.launch_answers import with_example
from vitascope.api.launch_body import registered_names
from vitascope.api.models import ABILITIES, OWNER
from vitascope.api.services import Services
from vitascope.api.values import FLAG
from vitascope.errors import InvalidRequest, ModelNotFound

VIDEO = "video"
OTHER_TYPES = frozenset({"LLM", "embedding", "rerank", "image", "audio", "flexible", "world"})
Type = Annotated[str, Path(description="video, or another of Xinference's types, of which there are none.")]
Name = Annotated[str, Path(description="A name that the operator gave, or a built-in one of Xinference's.")]
_ENGINE: dict[str, Any] = {
    "model_name": "Wan2.1-1.3B", "model_format": "diffusers", "model_ability": ["text2video"]
}  # fmt: skip
_REGISTRATION: dict[str, Any] = {
    "model_name": "Wan2.1-1.3B", "is_builtin": True, "model_type": VIDEO, "model_family": "wan",
    "model_ability": ["text2video"], "model_hub": HUB, "model_id": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
}  # fmt: skip


class Registration(BaseModel):
    """A model that can be launched by name; from `model_family` on null for one that the operator named."""

    model_config = with_example(_REGISTRATION)

    model_name: str
    is_builtin: bool
    model_type: str = VIDEO
    model_family: str | None = None
    model_ability: list[str] | None = None
    model_hub: str | None = None
    model_id: str | None = None


class Registrations(RootModel[list[Registration]]):
    """The models that can be launched by name: names alone, or all that is known."""

    model_config = with_example([_REGISTRATION])


class Engine(BaseModel):
    """What an engine reads of a model."""

    model_config = with_example(_ENGINE)

    model_name: str
    model_format: str
    model_ability: list[str]


class Engines(RootModel[dict[str, list[Engine]]]):
    """The engines that run a model, by name: one."""

    model_config = with_example({OWNER: [_ENGINE]})


class XinferenceRegistrations:
    """The routes."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def router(self) -> APIRouter:
        """Make the routes, documented."""
        routes = APIRouter(prefix="/v1", tags=["Xinference"])
        registrations = "/model_registrations/{model_type}"
        for path, call, model, statuses in (
            (registrations, self.registrations, Registrations, (400,)),
            (f"{registrations}/{{model_name}}", self.registration, Registration, (400, 404)),
            ("/engines/{model_type}/{model_name}", self.engines, Engines, (400, 404)),
        ):
            routes.add_api_route(
                path,
                call,
                methods=["GET"],
                response_model=model,
                response_model_exclude_unset=model is Registrations,  # names alone, unless more is asked
                responses=refusals(*statuses),
            )
        return routes

    async def registrations(
        self,
        model_type: Type,
        detailed: Annotated[str, Query(description="true: tell all that is known of each.")] = "false",
    ) -> Registrations:
        """List the models that can be launched by name: the operator's, then Xinference's built-in ones."""
        whole = FLAG.read("detailed", detailed)
        if not _is_video(model_type):
            return Registrations([])
        known = (await self._services.off_loop(self._known)).values()
        if whole:
            return Registrations([*known])
        return Registrations(
            [Registration(model_name=one.model_name, is_builtin=one.is_builtin) for one in known]
        )

    async def registration(self, model_type: Type, model_name: Name) -> Registration:
        """Tell what is known of a model that can be launched by name."""
        known = await self._services.off_loop(self._known) if _is_video(model_type) else {}
        if model_name not in known:
            raise ModelNotFound(
                f"No {model_type} model is known as {model_name[:80]!r}; launch others by hub id or folder.",
                param="model_name",
            )
        return known[model_name]

    async def engines(self, model_type: Type, model_name: Name) -> Engines:
        """List the engines that run a model: one, and what it reads."""
        found = await self.registration(model_type, model_name)
        engine = Engine(
            model_name=found.model_name, model_format="diffusers", model_ability=found.model_ability or []
        )
        return Engines({OWNER: [engine]})

    def _known(self) -> dict[str, Registration]:
        """Return what can be launched by name; blocking."""
        own = registered_names(self._services.settings)
        known = {name: Registration(model_name=name, is_builtin=False, model_type=VIDEO) for name in own}
        for model in BUILT_IN.values():
            built_in = Registration(
                model_name=model.name,
                is_builtin=True,
                model_type=VIDEO,
                model_family=model.family,
                model_ability=[ABILITIES[task] for task in model.tasks],
                model_hub=HUB,
                model_id=model.model_id,
            )
            known.setdefault(model.name, built_in)
        return known


def _is_video(model_type: str) -> bool:
    if model_type != VIDEO and model_type not in OTHER_TYPES:
        known = ", ".join(sorted({VIDEO, *OTHER_TYPES}))
        raise InvalidRequest(
            f"Unknown model type {model_type[:40]!r}; known are {known}.", param="model_type"
        )
    return model_type == VIDEO

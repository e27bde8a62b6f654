"""`/v1/models`: the served models and their aliases, each with its card, enough to draw a form from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from vitascope.api.errors import refusals
from vitascope.api.services import Services
from vitascope.card import ModelCard
from vitascope.errors import ModelNotFound
from vitascope.request import Task

OWNER = "vitascope"
ABILITIES: dict[Task, str] = {  # Xinference's names of what a video model can do
    "t2v": "text2video",
    "i2v": "image2video",
    "flf2v": "firstlastframe2video",
}


def router(services: Services, *, created: int) -> APIRouter:
    """Make the routes; `created` is the unix time that every model shows."""
    routes = APIRouter(prefix="/v1/models", tags=["Models"])

    def listing() -> dict[str, dict[str, Any]]:
        cards = services.scheduling.cards()
        entries = {card.name: _entry(card, card.name, created) for card in cards}
        for alias in services.settings.model_alias:
            name, _, target = alias.partition("=")
            card = next((c for c in cards if c.name == target or not target), None)
            if card is not None:
                entries.setdefault(name, _entry(card, name, created))
        return entries

    @routes.get("", responses=refusals(401))
    async def list_models() -> dict[str, Any]:
        """List the served models."""
        return {"object": "list", "data": list(listing().values())}

    @routes.get("/{model}", responses=refusals(401, 404))
    async def retrieve_model(model: str) -> dict[str, Any]:
        """Retrieve one served model, by its name or an alias."""
        try:
            return listing()[model]
        except KeyError:
            raise ModelNotFound(f"The model '{model[:80]}' does not exist.", param="model") from None

    return routes


def _entry(card: ModelCard, name: str, created: int) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": OWNER,
        "root": card.name,
        "model_type": "video",
        "model_name": card.name,
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

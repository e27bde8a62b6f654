"""Which served model a request is about, and what to say where it is not served, or not yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitascope.api.services import Services
from vitascope.api.values import wrong_type
from vitascope.card import ModelCard
from vitascope.errors import ModelLoading, Unavailable, UnknownModel
from vitascope.launch import Instance, InstanceState


def chosen_card(services: Services, name: Any, *, aliases: bool = True) -> ModelCard:
    """Return the card of the model that a request names by name or alias, or of the default one.

    Raises:
        UnknownModel: no served model has that name.
        ModelLoading: one that is being loaded has it.
        Unavailable: no model is served at all.

    """
    known = services.settings.aliases if aliases else ()
    try:
        return choose_card(name, _served(services), known)
    except UnknownModel:
        targets = {name, *(target for short, target in known if short == name)}
        loading = next((each for each in _loading(services) if each.uid in targets), None)
        if loading is None:
            raise
        raise ModelLoading(
            f"{loading.uid} is still being loaded ({loading.progress:.0%}). Try again in a moment.",
            param="model",
        ) from None


def choose_card(
    name: Any, cards: Sequence[ModelCard], aliases: Sequence[tuple[str, str | None]]
) -> ModelCard:
    """Return the card a request is about: the named one, an alias's, or the default one.

    `aliases` are as the settings give them, each with its model's name or None for the default one.

    Raises:
        UnknownModel: no served model has that name.

    """
    if name is None:
        return cards[0]
    if not isinstance(name, str):
        raise wrong_type("model", "a string", name)
    by_name = {card.name: card for card in cards}
    for short, target in aliases:
        if short == name and (target or cards[0].name) in by_name:
            return by_name[target or cards[0].name]
    if name not in by_name:
        served = ", ".join([*by_name, *(short for short, _ in aliases)])
        raise UnknownModel(
            f"The model {name[:80]!r} is not served here; served are: {served}.", param="model"
        )
    return by_name[name]


def _served(services: Services) -> Sequence[ModelCard]:
    cards = services.scheduling.cards()
    if cards:
        return cards
    trouble = services.scheduling.trouble()
    if trouble is not None:
        raise Unavailable(f"{trouble} Try again in a moment.")
    if _loading(services):
        raise ModelLoading("The model is still being loaded. Try again in a moment.")
    raise Unavailable("No model is served now; launch one first.")


def _loading(services: Services) -> list[Instance]:
    return [each for each in services.launching.instances() if each.state is InstanceState.LOADING]

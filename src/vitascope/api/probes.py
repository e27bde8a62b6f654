"""The two probes: is the process alive, can it take work. Open without a key."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from vitascope.api.services import Services


def router(services: Services) -> APIRouter:
    """Make the probes' routes."""
    routes = APIRouter(tags=["Probes"])

    async def live() -> dict[str, str]:
        """Liveness: the process answers."""
        return {"status": "alive"}

    async def health() -> Response:
        """Readiness: a model is loaded and jobs run."""
        if services.scheduling.ready():
            return JSONResponse({"status": "healthy"})
        reason = services.scheduling.trouble() or "The model is still being loaded."
        return JSONResponse({"status": "unhealthy", "reason": reason}, 503, {"retry-after": "5"})

    not_ready: dict[int | str, dict[str, Any]] = {503: {"description": "Not ready; `reason` says why."}}
    routes.add_api_route("/live", live, methods=["GET"])
    routes.add_api_route("/live", live, methods=["HEAD"], include_in_schema=False)
    routes.add_api_route("/health", health, methods=["GET"], responses=not_ready)
    routes.add_api_route("/health", health, methods=["HEAD"], include_in_schema=False)
    return routes

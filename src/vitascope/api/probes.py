"""The two probes: is the process alive, can it take work. Open without a key."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from vitascope.api.services import Services


def router(services: Services) -> APIRouter:
    """Make the probes' routes."""
    routes = APIRouter(tags=["Probes"])

    @routes.api_route("/live", methods=["GET", "HEAD"], summary="Liveness: the process answers", name="live")
    async def live() -> dict[str, str]:
        return {"status": "alive"}

    @routes.api_route(
        "/health",
        methods=["GET", "HEAD"],
        summary="Readiness: a model is loaded and jobs run",
        name="health",
        responses={503: {"description": "Not ready; `reason` says why."}},
    )
    async def health() -> Response:
        if services.scheduling.ready():
            return JSONResponse({"status": "healthy"})
        reason = services.scheduling.trouble() or "The model is still being loaded."
        return JSONResponse({"status": "unhealthy", "reason": reason}, 503, {"retry-after": "5"})

    return routes

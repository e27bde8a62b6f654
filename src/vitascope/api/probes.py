"""The two probes: is the process alive, can it take work. Open without a key.

What `/health` says beside its status is for the Multi-GPU dialect's readers: one process is rank 0 of 1.
"""

from __future__ import annotations

import time
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict

from vitascope.api.services import Services


class Alive(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "alive"}})

    status: Literal["alive"]


class Service(BaseModel):
    """What this is."""

    name: str


class Places(BaseModel):
    """Tasks that wait or run, how many there may be, and how many more."""

    concurrent_tasks: int
    max_concurrent: int
    available_slots: int


_HEALTHY: JsonDict = {
    "status": "healthy",
    "uptime": 60.5,
    "timestamp": 1758941485.25,
    "rank": 0,
    "world_size": 1,
    "pipeline_rank": 0,
    "pipeline_world_size": 1,
    "total_tasks": 1,
    "service": {"name": "vitascope"},
    "resources": {"concurrent_tasks": 1, "max_concurrent": 257, "available_slots": 256},
}


class Healthy(BaseModel):
    """Jobs are taken and run. Times are seconds; one process is rank 0 of 1."""

    model_config = ConfigDict(json_schema_extra={"example": _HEALTHY})

    status: Literal["healthy"]
    uptime: float
    timestamp: float
    rank: int
    world_size: int
    pipeline_rank: int
    pipeline_world_size: int
    total_tasks: int
    service: Service
    resources: Places


class Unhealthy(BaseModel):
    """No job can run now."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"status": "unhealthy", "reason": "The model is still being loaded."}}
    )

    status: Literal["unhealthy"]
    reason: str


def router(services: Services) -> APIRouter:
    """Make the probes' routes."""
    routes = APIRouter(tags=["Probes"])
    began = time.monotonic()

    async def live() -> dict[str, str]:
        """Liveness: the process answers."""
        return {"status": "alive"}

    async def health() -> Response:
        """Readiness: a model is loaded and jobs run."""
        if services.scheduling.ready():
            load = await services.off_loop(_load, services)
            return JSONResponse({"status": "healthy", "uptime": round(time.monotonic() - began, 3), **load})
        reason = services.scheduling.trouble() or "The model is still being loaded."
        return JSONResponse({"status": "unhealthy", "reason": reason}, 503, {"retry-after": "5"})

    not_ready: dict[int | str, dict[str, Any]] = {
        503: {"model": Unhealthy, "description": "Not ready; `reason` says why."}
    }
    routes.add_api_route("/live", live, methods=["GET"], response_model=Alive)
    routes.add_api_route("/live", live, methods=["HEAD"], include_in_schema=False)
    routes.add_api_route("/health", health, methods=["GET"], response_model=Healthy, responses=not_ready)
    routes.add_api_route("/health", health, methods=["HEAD"], include_in_schema=False)
    return routes


def _load(services: Services) -> dict[str, Any]:
    """Count tasks and free places; blocking."""
    waiting, running = services.store.num_waiting(), len(services.store.running())
    free = max(services.settings.max_queue - waiting, 0)
    tasks = waiting + running
    return {
        "timestamp": round(time.time(), 3),
        "rank": 0,
        "world_size": 1,
        "pipeline_rank": 0,
        "pipeline_world_size": 1,
        "total_tasks": tasks,
        "service": {"name": "vitascope"},
        "resources": {"concurrent_tasks": tasks, "max_concurrent": tasks + free, "available_slots": free},
    }

"""The HTTP application: dialects and probes behind the guards, in the order in which a request meets them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute

from vitascope import __version__
from vitascope.api import (
    description,
    docs,
    errors,
    models,
    multi_gpu,
    openai,
    probes,
    vllm_omni,
    xinference,
    xinference_cluster,
    xinference_models,
    xinference_registrations,
)
from vitascope.api.headers import StandardHeaders
from vitascope.api.security import BearerAuth, BodyLimit, HostGuard
from vitascope.api.services import Services

DESCRIPTION = """
An open video-generation server. `/v1/videos` speaks OpenAI's Videos API, extended with the fields that open
models have. Bodies are multipart, urlencoded or JSON; in forms, nested values are JSON text or bracketed keys
(`lora[0][name]`).

A refusal is `{"error": {"message", "type", "param", "code"}}`, on the routes of Xinference and of the
Multi-GPU dialect `{"detail": "..."}`. If the operator set a key, send it as `Authorization: Bearer KEY`.
"""
EXPOSED_HEADERS = (
    "x-request-id",
    "x-client-request-id",
    "openai-processing-ms",
    "openai-poll-after-ms",
    "etag",
)


def create_app(services: Services) -> FastAPI:
    """Build the application around its services; it closes the api's own threads when it stops."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        services.close()

    app = FastAPI(
        title="Vitascope",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load their scripts from a third party
        redoc_url=None,
        redirect_slashes=False,  # a redirect would be built from the Host that the client sent
    )
    parts = routers(services)
    for part in parts:
        app.include_router(part)
    routes = [route for part in parts for route in part.routes if isinstance(route, APIRoute)]
    errors.install(app, routes)
    _guard(app, services)
    description.install(app, routes, keyed=services.settings.api_key is not None)
    return app


def routers(services: Services) -> list[APIRouter]:
    """Make all routes, in the order in which they are tried."""
    created = int(time.time())
    return [
        openai.OpenAIVideos(services).router(),
        vllm_omni.VllmOmni(services).router(),
        xinference.Xinference(services).router(),
        multi_gpu.MultiGpu(services).router(),
        xinference_models.XinferenceModels(services).router(),
        xinference_registrations.XinferenceRegistrations(services).router(),
        xinference_cluster.XinferenceCluster(services, created=created).router(),
        models.router(services, created=created),
        probes.router(services),
        docs.router(),
    ]


def _guard(app: FastAPI, services: Services) -> None:
    """Add the layers, innermost first."""
    settings = services.settings
    keys = [settings.api_key.get_secret_value()] if settings.api_key else []
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(BearerAuth, keys=keys)
    if settings.cors_origins:  # outside the key check: a browser's preflight carries none
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=list(EXPOSED_HEADERS),
        )
    app.add_middleware(
        HostGuard,
        loopback=settings.loopback,
        hosts=settings.allowed_hosts,
        origins=settings.cors_origins,
    )
    app.add_middleware(errors.LastResort)
    app.add_middleware(StandardHeaders)

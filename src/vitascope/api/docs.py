"""`/docs`: the OpenAPI document as a page of our own, which loads nothing from elsewhere; `/` leads there.

So it works without a network, and no third party's script runs on the origin of the API.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict

from vitascope import __version__

PAGE = files("vitascope.api").joinpath("docs.html").read_text(encoding="utf-8")


_BANNER: JsonDict = {
    "service": "vitascope",
    "version": __version__,
    "docs": "/docs",
    "openapi": "/openapi.json",
    "models": "/v1/models",
    "health": "/health",
}


class Banner(BaseModel):
    """What answers here, its version, and where the rest is."""

    model_config = ConfigDict(json_schema_extra={"example": _BANNER})

    service: str
    version: str
    docs: str
    openapi: str
    models: str
    health: str


def router() -> APIRouter:
    """Make the page's route and the banner's."""
    routes = APIRouter()
    headers = {"content-security-policy": _policy(PAGE)}

    @routes.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(PAGE, headers=headers)

    @routes.get("/", response_model=Banner, tags=["Probes"])
    async def banner() -> JsonDict:
        """Say what this is and where its documentation is."""
        return _BANNER

    return routes


def _policy(page: str) -> str:
    """Allow the page's own script and style, by their hashes, and calls of this server; nothing else."""
    script, style = _hash(page, "script"), _hash(page, "style")
    return (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(page: str, tag: str) -> str:
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()

"""`/docs`: the OpenAPI document as a page of our own, which loads nothing from anywhere else.

So it works without a network, and no third party's script runs on the origin of the API.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

PAGE = files("vitascope.api").joinpath("docs.html").read_text(encoding="utf-8")


def router() -> APIRouter:
    """Make the page's route."""
    routes = APIRouter()
    headers = {"content-security-policy": _policy(PAGE)}

    @routes.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(PAGE, headers=headers)

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

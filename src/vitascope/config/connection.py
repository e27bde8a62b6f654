"""Where a running server is, for the commands that are its clients."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from vitascope.config.sources import ENV_PREFIX
from vitascope.errors import ConfigurationError

DEFAULT_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class Connection:
    """A running server: where it is, without a slash at the end, and its key."""

    url: str
    api_key: SecretStr | None


def load_connection(
    url: str | None = None, api_key: str | None = None, *, environ: Mapping[str, str] | None = None
) -> Connection:
    """Say which server to speak to; what is not given comes from VITASCOPE_URL and VITASCOPE_API_KEY.

    A `/v1` at the end, as SDKs have it, is taken off.

    Raises:
        ConfigurationError: the URL is not one of http or https.

    """
    environ = os.environ if environ is None else environ
    place = (url or environ.get(f"{ENV_PREFIX}URL") or DEFAULT_URL).rstrip("/").removesuffix("/v1")
    if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", place):
        raise ConfigurationError(f"url is {place!r}; write it as http://host:port.")
    key = api_key or environ.get(f"{ENV_PREFIX}API_KEY")
    return Connection(place, SecretStr(key) if key else None)

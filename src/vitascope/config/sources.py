"""Where settings come from: a TOML file, `VITASCOPE_*` variables and flags; the later wins."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitascope.config.settings import Settings, checked
from vitascope.errors import ConfigurationError, nearest

ENV_PREFIX = "VITASCOPE_"
NO_SETTINGS = ("CONFIG", "URL")  # variables that say where settings or a server are, and are none themselves
LISTS = frozenset(
    name for name, field in Settings.model_fields.items() if field.annotation == tuple[str, ...]
)
# vLLM-Omni's storage variables, the older spellings first: our setting, or None where nothing is to be set.
ALIASES: dict[str, str | None] = {
    "VLLM_OMNI_STORAGE_PATH": "data_dir",
    "VLLM_OMNI_SERVER_STORAGE__PATH": "data_dir",
    "VLLM_OMNI_SERVER_STORAGE__FILE_TTL": "retention_s",
    "VLLM_OMNI_SERVER_STORAGE__TTL_SWEEP_INTERVAL": None,
    "VLLM_OMNI_STORAGE_MAX_CONCURRENCY": None,
    "VLLM_OMNI_SERVER_STORAGE__FILE_CONCURRENCY": None,
}


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Merge TOML file, environment and flags (the later wins) into settings.

    Of the environment, `ALIASES` are read too; our own variables win over them.

    Raises:
        ConfigurationError: an unknown name (with the nearest known one) or a value that does not fit.

    """
    environ = os.environ if environ is None else environ
    merged: dict[str, Any] = {}
    path = file or (Path(environ[f"{ENV_PREFIX}CONFIG"]) if environ.get(f"{ENV_PREFIX}CONFIG") else None)
    if path is not None:
        merged |= _from_toml(path)
    merged |= _from_aliases(environ) | _from_environ(environ)
    merged |= {key: value for key, value in (flags or {}).items() if value is not None}
    return checked(merged)


def idle_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """Name the variables of `ALIASES` that are set and mean nothing here, so that a server can say so."""
    environ = os.environ if environ is None else environ
    return [name for name, setting in ALIASES.items() if setting is None and name in environ]


def _check_known(names: list[str], source: str) -> None:
    known = list(Settings.model_fields)
    for name in names:
        if name not in known:
            raise ConfigurationError(f"{source}: unknown setting {name!r}{nearest(name, known)}")


def _from_toml(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"Cannot read the settings file {path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"The settings file {path} is not valid TOML: {error}.") from None
    _check_known(list(values), path.name)
    return values


def _from_aliases(environ: Mapping[str, str]) -> dict[str, Any]:
    return {
        setting: environ[name]
        for name, setting in ALIASES.items()
        if setting is not None and environ.get(name)
    }


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    names = {key: key.removeprefix(ENV_PREFIX).lower() for key in environ if key.startswith(ENV_PREFIX)}
    for name in NO_SETTINGS:
        names.pop(f"{ENV_PREFIX}{name}", None)
    _check_known(list(names.values()), "environment")
    values: dict[str, Any] = {name: environ[key] for key, name in names.items()}
    for name in LISTS & values.keys():
        values[name] = tuple(filter(None, values[name].split(",")))
    return values

"""`vitascope serve`: every setting of the server is a flag."""

from __future__ import annotations

from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo

import vitascope
from vitascope.cli.flags import with_parameters
from vitascope.config import Settings, load_settings
from vitascope.errors import InvalidRequest
from vitascope.observability.logs import set_up_logging

# Where --help shows a flag; one of no group stands with the general ones.
_GROUPS = {
    "Address": "host port api_key insecure allowed_hosts cors_origins",
    "Model": (
        "model_path model_name model_alias model_revision model_cache_dir offline lora transformer_path "
        "device dtype vae_dtype num_threads"
    ),
    "Several models": "also memory_budget_bytes unload_idle allow_launch launchable",
    "Requests": (
        "max_queue max_body_bytes max_input_pixels max_input_frames allow_remote_media allow_media_domain "
        "allowed_local_media_path"
    ),
    "Jobs": "data_dir database_url max_attempts hang_after_s checkpoint_interval_s retention_s",
}
_PANELS = {name: panel for panel, names in _GROUPS.items() for name in names.split()}


def _serve(model: str | None = None, config: Path | None = None, **flags: Any) -> None:
    """Serve a model over HTTP until SIGTERM or Ctrl-C; what runs then goes on at the next start.

    Each flag may also be set in a TOML file (--config) or as a variable (--data-dir is VITASCOPE_DATA_DIR).
    Flags win over variables, variables over the file.
    """
    if model is not None:
        if flags["model_path"] not in (None, model):
            raise InvalidRequest(
                f"MODEL is {model!r} and --model-path {flags['model_path']!r}; give one of them.",
                param="model_path",
            )
        flags["model_path"] = model
    settings = load_settings(
        {name: value for name, value in flags.items() if value not in (None, [])}, file=config
    )
    set_up_logging(settings.log_level, as_json=settings.log_json, secrets=settings.secrets)
    from vitascope import server

    server.serve(settings, on_listening=_announce)


def _announce(url: str) -> None:
    typer.echo(f"Vitascope {vitascope.__version__} listens on {url} (routes: {url}/docs)")


def _flag(name: str, field: FieldInfo) -> Parameter:
    plain = _plain(field.annotation)
    option = typer.Option(
        help=field.description,
        show_default=_shown_default(name, field),
        metavar="TEXT" if plain == list[str] | None else None,
        rich_help_panel=_PANELS.get(name),
    )
    annotation: Any = Annotated[plain, option]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _plain(annotation: Any) -> Any:
    """Return what is typed on a command line; what it has to be is checked with the settings."""
    if annotation in (bool, int, float):
        return annotation | None
    return list[str] | None if str(annotation).startswith("tuple") else str | None


def _shown_default(name: str, field: FieldInfo) -> str | bool:
    unset = (
        field.is_required()
        or field.default in (None, (), False)
        or name == "model_path"
        or field.default_factory
    )
    return False if unset else str(field.default)


_MODEL = Annotated[
    str | None,
    typer.Argument(help="Model folder or hub id, as --model-path.", metavar="[MODEL]", show_default=False),
]
_CONFIG = Annotated[Path | None, typer.Option(help="TOML file with settings.", show_default=False)]

serve = with_parameters(
    _serve,
    [
        Parameter("model", Parameter.KEYWORD_ONLY, default=None, annotation=_MODEL),
        Parameter("config", Parameter.KEYWORD_ONLY, default=None, annotation=_CONFIG),
        *(_flag(name, field) for name, field in Settings.model_fields.items()),
    ],
    _serve,
)
serve.__name__ = "serve"

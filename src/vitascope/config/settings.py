"""Every setting of the operator, its meaning and its limits; where values come from is not known here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qs, unquote

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from vitascope.config.model_source import ModelSource
from vitascope.config.named_paths import AdapterSpec, parse_adapter, parse_named, parse_weights
from vitascope.errors import ConfigurationError

SECRETS = frozenset({"api_key", "database_url"})  # settings that no worker is told
BUNDLED_MODEL = Path(__file__).parents[1] / "bundled" / "vitascope-tiny"

_T = TypeVar("_T")


def _data_dir() -> Path:
    root = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(root) / "vitascope"


class Settings(BaseModel):
    """Everything an operator can set; frozen, with unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(
        "127.0.0.1", description="Address to listen on; another than loopback needs an API key."
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    api_key: SecretStr | None = Field(None, description="Key that every client must send as a bearer token.")
    insecure: bool = Field(False, description="Allow a non-loopback address without an API key.")
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Host names answered on loopback besides localhost, as a proxy in front sends them."
    )
    cors_origins: tuple[str, ...] = Field(
        (), description="Web pages' origins (https://name) that may call the API from a browser."
    )
    data_dir: Path = Field(default_factory=_data_dir, description="Where jobs and finished files are kept.")
    database_url: SecretStr | None = Field(
        None,
        description="Where jobs are kept instead: postgresql://USER:PASSWORD@HOST/NAME; SQLite in the data "
        "folder if unset. Files stay in the data folder.",
    )
    model_path: str = Field(
        str(BUNDLED_MODEL), description="Folder of the model to serve; the bundled one if unset."
    )
    model_name: str | None = Field(
        None, description="Name under which the model is served; its own if unset."
    )
    model_alias: tuple[str, ...] = Field(
        (), description="Further name that clients may use for the model, or NAME=MODEL for one of several."
    )
    also: tuple[str, ...] = Field(
        (), description="Model to serve beside the first one: NAME=PATH or NAME=owner/model."
    )
    model_revision: str | None = Field(
        None, description="Branch, tag or commit of a hub model; its main branch if unset."
    )
    model_cache_dir: Path | None = Field(
        None, description="Where hub models are kept; the hub's own cache (HF_HOME) if unset."
    )
    offline: bool = Field(False, description="Never ask the hub; use models that were downloaded before.")
    lora: tuple[str, ...] = Field(
        (),
        description="Adapter to offer: NAME=PATH or NAME=PATH:WEIGHT; NAME.high=PATH and NAME.low=PATH for "
        "one of two experts. Requests choose by name.",
    )
    transformer_path: tuple[str, ...] = Field(
        (),
        description="File of weights (.safetensors or .gguf) in place of the folder's transformer; "
        "transformer_2=FILE for the second of two experts.",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Precision of the networks; auto is bfloat16 on an accelerator, else float32."
    )
    vae_dtype: Literal["auto", "float32"] = Field(
        "auto",
        description="Precision of the VAE; auto is 16 bits on an accelerator where the reference's has them.",
    )
    memory_budget_bytes: int | None = Field(
        None,
        ge=0,
        description="Memory of a device that all its models may take; what is free if unset.",
    )
    unload_idle: bool = Field(
        False,
        description="Unload models used longest ago where another needs the room; a job loads them again.",
    )
    allow_launch: Literal["off", "registered", "any"] | None = Field(
        None,
        description="Models that clients may launch and terminate: off, registered (see launchable) or any "
        "path or hub id. If unset, any where only this machine's users reach the server, else off.",
    )
    launchable: tuple[str, ...] = Field(
        (),
        description="What clients may launch by name: NAME=PATH, NAME=owner/model, or a folder of models.",
    )
    num_threads: int = Field(
        0, ge=0, description="CPU threads of a worker; 0 takes the cores of the machine."
    )
    max_queue: int = Field(256, ge=1, description="Jobs that may wait; one more is answered 429.")
    max_body_bytes: int = Field(64 * 1024 * 1024, ge=1024, description="Largest request body.")
    max_input_pixels: int = Field(
        25_000_000, ge=1024, description="Largest picture or frame of a clip, in pixels."
    )
    max_input_frames: int = Field(2000, ge=1, description="Longest clip that is read, in frames.")
    allow_remote_media: bool = Field(
        False, description="Fetch pictures that clients name by http(s) URL, from public addresses only."
    )
    allow_media_domain: tuple[str, ...] = Field(
        (), description="Domain (with its subdomains) to fetch pictures from; with any given, no other one."
    )
    allowed_local_media_path: Path | None = Field(
        None, description="Folder below which clients may name pictures as file:// URLs; none if unset."
    )
    max_attempts: int = Field(3, ge=1, description="Times a job is started before a lost worker fails it.")
    hang_after_s: float = Field(
        1800.0,
        ge=0,
        description="Seconds without headway (a step, a part of loading or decoding) after which a worker is "
        "killed and started again; ten times a step's known time if that is more; 0 for never.",
    )
    checkpoint_interval_s: float = Field(
        5.0, ge=0, description="Seconds of work between saved states of a job."
    )
    retention_s: float | None = Field(
        None, ge=0, description="Seconds a finished clip is kept; for ever if unset."
    )
    log_level: str = Field("info", description="debug, info, warning or error.")
    log_json: bool = Field(False, description="Write log lines as JSON.")

    @field_validator("api_key")
    @classmethod
    def _sendable(cls, key: SecretStr | None) -> SecretStr | None:
        """Refuse a key that no client can send: blanks around it are lost on the way."""
        if key is not None and key.get_secret_value() != key.get_secret_value().strip():
            raise ValueError("the key begins or ends with a blank")
        return key

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        """Take PostgreSQL's own spellings; a URL is not repeated, as it may hold a password."""
        if url is None:
            return None
        scheme, colon, rest = url.get_secret_value().partition("://")
        if scheme not in {"postgresql", "postgres"} or not colon:
            raise ValueError("write it as postgresql://USER:PASSWORD@HOST:PORT/NAME")
        return SecretStr(f"postgresql://{rest}")

    @field_validator("also")
    @classmethod
    def _named(cls, also: tuple[str, ...]) -> tuple[str, ...]:
        if name := _repeated([parse_named("also", text)[0] for text in also]):
            raise ConfigurationError(f"also names {name!r} twice; give each model a name of its own.")
        return also

    @field_validator("launchable")
    @classmethod
    def _launchable(cls, launchable: tuple[str, ...]) -> tuple[str, ...]:
        for text in launchable:
            if "=" in text:
                parse_named("launchable", text)
        return launchable

    @field_validator("lora")
    @classmethod
    def _readable(cls, lora: tuple[str, ...]) -> tuple[str, ...]:
        if double := _repeated([(spec.name, spec.expert) for spec in map(parse_adapter, lora)]):
            raise ConfigurationError(
                f"lora {double[0]!r} is given twice; give each adapter a name of its own."
            )
        return lora

    @field_validator("transformer_path")
    @classmethod
    def _told_apart(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        if part := _repeated([part for part, _ in map(parse_weights, paths)]):
            raise ConfigurationError(
                f"transformer_path gives two files for {part}; write transformer_2=FILE for a second expert."
            )
        return paths

    @property
    def replaced(self) -> dict[str, Path]:
        """The components whose weights come from a file, not from the model's folder."""
        return {part: path.expanduser() for part, path in map(parse_weights, self.transformer_path)}

    @property
    def model_source(self) -> ModelSource:
        """Where the model is had."""
        return ModelSource(
            self.model_path,
            revision=self.model_revision,
            cache_dir=self.model_cache_dir,
            offline=self.offline,
            replaced=self.replaced,
        )

    @property
    def adapters(self) -> tuple[AdapterSpec, ...]:
        """The adapters to register."""
        return tuple(parse_adapter(text) for text in self.lora)

    @property
    def aliases(self) -> tuple[tuple[str, str | None], ...]:
        """The aliases, each with the name of its model; None stands for the default one."""
        parted = (text.partition("=") for text in self.model_alias)
        return tuple((name, model or None) for name, _, model in parted)

    @property
    def asked_dtype(self) -> str | None:
        """The precision asked for; None leaves it to the device."""
        return None if self.dtype == "auto" else self.dtype

    @property
    def artifacts_dir(self) -> Path:
        """Where pictures, checkpoints and clips are kept."""
        return self.data_dir / "artifacts"

    @property
    def store_url(self) -> str:
        """Where jobs are kept; may hold a password."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.database_path}"

    @property
    def database_path(self) -> Path:
        """Where jobs are kept if `database_url` names no other place."""
        return self.data_dir / "jobs.sqlite3"

    @property
    def secrets(self) -> list[str]:
        """What no log line may hold."""
        key = [] if self.api_key is None else [self.api_key.get_secret_value()]
        url = "" if self.database_url is None else self.database_url.get_secret_value()
        password = url.rpartition("@")[0].rpartition("/")[2].partition(":")[2]
        asked = parse_qs(url.partition("?")[2])
        return [text for text in (*key, url, password, unquote(password), *asked.get("password", ())) if text]

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def launch_rule(self) -> Literal["off", "registered", "any"]:
        """Which models clients may launch: any where nothing says that clients are others than the operator.

        A key, a proxy's host name and another site's page say so, and so does an open address.
        """
        if self.allow_launch is not None:
            return self.allow_launch
        alone = self.loopback and not (self.api_key or self.allowed_hosts or self.cors_origins)
        return "any" if alone else "off"

    def check_exposure(self) -> None:
        """Refuse to listen beyond this machine without a key, unless the operator insists."""
        if not (self.loopback or self.api_key or self.insecure):
            raise ConfigurationError(
                f"{self.host} can be reached from other machines and no API key is set; "
                "set --api-key (or VITASCOPE_API_KEY), listen on 127.0.0.1, or insist with --insecure."
            )


def changed(settings: Settings, **changes: Any) -> Settings:
    """Return settings with some values replaced.

    Raises:
        ConfigurationError: a value that does not fit.

    """
    return checked({**settings.model_dump(), **changes})


def checked(values: dict[str, Any]) -> Settings:
    """Return settings of these values.

    Raises:
        ConfigurationError: an unknown name, or a value that does not fit; a secret is not repeated.

    """
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name, why = str(first["loc"][0]), first["msg"].removeprefix("Value error, ")
        given = "" if name in SECRETS else f" is {first['input']!r:.60}"
        raise ConfigurationError(f"{name}{given}: {why[:1].lower()}{why[1:]}.") from None


def _repeated(items: Sequence[_T]) -> _T | None:
    return next((item for item in items if items.count(item) > 1), None)

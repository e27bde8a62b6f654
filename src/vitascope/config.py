"""The operator's settings: a TOML file, `VITASCOPE_*` variables and flags, read once.

The only reader of the environment.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from vitascope.errors import ConfigurationError

ENV_PREFIX = "VITASCOPE_"
SECRETS = frozenset({"api_key", "database_url"})  # settings that no worker is told
NO_SETTINGS = ("CONFIG", "URL")  # variables that say where settings or a server are, and are none themselves
DEFAULT_URL = "http://127.0.0.1:8000"
LISTS = frozenset(
    {
        "allow_media_domain",
        "allowed_hosts",
        "also",
        "cors_origins",
        "launchable",
        "lora",
        "model_alias",
        "transformer_path",
    }
)  # commas part them in variables
# vLLM-Omni's storage variables, the older spellings first: our setting, or None where nothing is to be set.
ALIASES: dict[str, str | None] = {
    "VLLM_OMNI_STORAGE_PATH": "data_dir",
    "VLLM_OMNI_SERVER_STORAGE__PATH": "data_dir",
    "VLLM_OMNI_SERVER_STORAGE__FILE_TTL": "retention_s",
    "VLLM_OMNI_SERVER_STORAGE__TTL_SWEEP_INTERVAL": None,
    "VLLM_OMNI_STORAGE_MAX_CONCURRENCY": None,
    "VLLM_OMNI_SERVER_STORAGE__FILE_CONCURRENCY": None,
}
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2
BUNDLED_MODEL = Path(__file__).parent / "bundled" / "vitascope-tiny"
MODEL_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
_ADAPTER = re.compile(
    r"(?P<name>[A-Za-z0-9][\w-]{0,63})(\.(?P<expert>high|low))?=(?P<path>.+?)(:(?P<weight>[+-]?(\d+\.?\d*|\.\d+)))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSpec:
    """One adapter (LoRA) to register; `expert` is None where it is for every transformer.

    `weight` is what a request's scale of 1 stands for.
    """

    name: str
    path: Path
    weight: float = 1.0
    expert: Literal["high", "low"] | None = None


def parse_adapter(text: str) -> AdapterSpec:
    """Read `NAME=PATH`, `NAME.high=PATH` or `NAME.low=PATH`, with `:WEIGHT` at the end if wanted.

    Raises:
        ConfigurationError: it is written otherwise.

    """
    match = _ADAPTER.fullmatch(text)
    if match is None:
        raise ConfigurationError(
            f"lora is {text!r}; write NAME=PATH or NAME=PATH:WEIGHT (NAME of letters, digits, - and _), and "
            "NAME.high=PATH and NAME.low=PATH for an adapter of one of two experts."
        )
    expert: Any = match["expert"]
    weight = 1.0 if match["weight"] is None else float(match["weight"])
    return AdapterSpec(name=match["name"], path=Path(match["path"]), weight=weight, expert=expert)


def parse_named(setting: str, text: str) -> tuple[str, str]:
    """Read `NAME=PATH`, a model's folder or hub id under a name.

    Raises:
        ConfigurationError: it is written otherwise.

    """
    name, _, path = text.partition("=")
    if not MODEL_NAME.fullmatch(name) or not path:
        raise ConfigurationError(
            f"{setting} is {text!r}; write NAME=PATH or NAME=owner/model, NAME in letters, digits, ., -, _."
        )
    return name, path


def parse_weights(text: str) -> tuple[str, Path]:
    """Read `FILE` or `COMPONENT=FILE`; a file alone is for the component `transformer`."""
    part, equals, path = text.partition("=")
    if equals and re.fullmatch(r"transformer\w*", part, re.ASCII):
        return part, Path(path)
    return "transformer", Path(text)


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
        names = [parse_named("also", text)[0] for text in also]
        for name in {name for name in names if names.count(name) > 1}:
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
        names = [(spec.name, spec.expert) for spec in map(parse_adapter, lora)]
        for name, _ in {name for name in names if names.count(name) > 1}:
            raise ConfigurationError(f"lora {name!r} is given twice; give each adapter a name of its own.")
        return lora

    @field_validator("transformer_path")
    @classmethod
    def _told_apart(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        parts = [part for part, _ in map(parse_weights, paths)]
        for part in {part for part in parts if parts.count(part) > 1}:
            raise ConfigurationError(
                f"transformer_path gives two files for {part}; write transformer_2=FILE for a second expert."
            )
        return paths

    @property
    def replaced(self) -> dict[str, Path]:
        """The components whose weights come from a file, not from the model's folder."""
        return {part: path.expanduser() for part, path in map(parse_weights, self.transformer_path)}

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
        return f"sqlite:///{self.data_dir / 'jobs.sqlite3'}"

    @property
    def secrets(self) -> list[str]:
        """What no log line may hold."""
        key = [] if self.api_key is None else [self.api_key.get_secret_value()]
        url = "" if self.database_url is None else self.database_url.get_secret_value()
        password = url.rpartition("@")[0].rpartition("/")[2].partition(":")[2]
        return [text for text in (*key, url, password, unquote(password)) if text]

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
    return _checked(merged)


def changed(settings: Settings, **changes: Any) -> Settings:
    """Return settings with some values replaced.

    Raises:
        ConfigurationError: a value that does not fit.

    """
    return _checked({**settings.model_dump(), **changes})


def _checked(values: dict[str, Any]) -> Settings:
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name, why = str(first["loc"][0]), first["msg"].removeprefix("Value error, ")
        given = "" if name in SECRETS else f" is {first['input']!r:.60}"
        raise ConfigurationError(f"{name}{given}: {why[:1].lower()}{why[1:]}.") from None


def idle_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """Name the variables of `ALIASES` that are set and mean nothing here, so that a server can say so."""
    environ = os.environ if environ is None else environ
    return [name for name, setting in ALIASES.items() if setting is None and name in environ]


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


def available_cores() -> int:
    """Count the cores this process may use, by its affinity and by the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    try:
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


# Idle OpenMP threads sleep: spinning ones make a step many times slower when others share the cores.
_CALM = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "TOKENIZERS_PARALLELISM": "false"}


def calm_threads() -> None:
    """Let idle threads of this process sleep, unless its environment says otherwise; before torch loads."""
    for name, value in _CALM.items():
        os.environ.setdefault(name, value)


def worker_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of a worker process: this one's, without our settings, with threads set."""
    threads = str(settings.num_threads or available_cores())
    return child_environment() | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)


def child_environment() -> dict[str, str]:
    """Return the environment of a process of ours: this one's, without our settings and their secrets."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ENV_PREFIX)}
    return environment | _CALM


def nearest(name: str, known: list[str]) -> str:
    """Say which known name was probably meant, as the end of a sentence."""
    match = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {match[0]!r}?" if match else f"; known are {', '.join(sorted(known))}."


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

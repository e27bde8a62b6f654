"""Models that are served side by side, as plain data: what is asked to be launched, and how it stands.

How a model is loaded, and who may launch which, is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vitascope.card import ModelCard


class InstanceState(StrEnum):
    """How a launched model stands. Only READY and UNLOADED ones take requests."""

    LOADING = "loading"  # its worker starts, downloads, waits for memory or loads
    READY = "ready"
    UNLOADED = "unloaded"  # made room for another; loaded again as soon as a job names it
    ERROR = "error"  # its last load failed; `error` says why
    TERMINATED = "terminated"  # cancelled or terminated; only ever seen in the answer to that


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """What to load and how; every option but the name acts.

    `model` is a name that the operator registered, a folder, or a hub id (owner/name). `uid` is the name
    under which the model is served; by default the registered name, the folder's or the hub id's last part.
    `revision` pins a hub model; `device` is auto, cpu, cuda or cuda:N, `dtype` auto, float32, bfloat16 or
    float16 (None: as the server's own settings say). `lora` are adapters, and `transformer_path` files of
    weights in place of the folder's own, both as the settings of these names write them. `name` is what the
    caller calls the model besides, to be shown.
    """

    model: str
    uid: str | None = None
    revision: str | None = None
    device: str | None = None
    dtype: str | None = None
    lora: tuple[str, ...] = ()
    transformer_path: tuple[str, ...] = ()
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A launch as it is written down, to be done again when the server starts."""

    uid: str
    spec: LaunchSpec
    created_at: float  # unix seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One launched model as it stands now.

    `progress` goes from 0 to 1 and never falls during one load; `stage` says in a few words what is being
    done. `card` is known once the model was loaded and kept from then on. `error` is a sentence that is safe
    to show, with its stable `error_code`; both None unless something went wrong. `configured` models come
    from the operator's settings: their `spec` holds paths of his, so show `model_name` instead.
    """

    uid: str
    spec: LaunchSpec
    state: InstanceState
    created_at: float  # unix seconds
    progress: float = 0.0
    stage: str = ""
    card: ModelCard | None = None
    error: str | None = None
    error_code: str | None = None
    configured: bool = False

    @property
    def model_name(self) -> str:
        """The caller's or the registered name, or the last part of the folder or hub id: safe to show."""
        return self.spec.name or self.spec.model.rstrip("/").rsplit("/", 1)[-1]

"""What the routes about launched models answer, in Xinference's words."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from vitascope.api.models import ABILITIES, shown_name
from vitascope.launch import Instance, InstanceState

Status = Literal["CREATING", "READY", "ERROR", "TERMINATED"]
STATUSES: dict[InstanceState, Status] = {
    InstanceState.LOADING: "CREATING",
    InstanceState.READY: "READY",
    InstanceState.UNLOADED: "READY",  # it takes requests
    InstanceState.ERROR: "ERROR",
    InstanceState.TERMINATED: "TERMINATED",
}
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_REPLICA: dict[str, Any] = {
    "replica_id": 0,
    "replica_model_uid": "wan-0",
    "status": "CREATING",
    "progress": 0.4,
}
_INSTANCE: dict[str, Any] = {
    "model_uid": "wan", "model_name": "Wan2.1-1.3B", "model_version": None, "model_type": "video",
    "model_ability": [], "replica": 1, "n_worker": 1, "status": "CREATING", "instance_created_ts": 1758941485,
    "state": "loading", "progress": 0.4, "stage": "loading", "error": None, "error_code": None,
    "source": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "configured": False,
}  # fmt: skip


def with_example(example: Any) -> ConfigDict:
    """Configure a model: it has this example, and may have fields named `model_...`."""
    return ConfigDict(protected_namespaces=(), json_schema_extra={"example": example})


class Nothing(RootModel[None]):
    """A null: it is done."""

    model_config = with_example(None)


class Launched(BaseModel):
    """The name under which requests ask for the model."""

    model_config = with_example({"model_uid": "wan"})

    model_uid: str
    warnings: list[str] | None = Field(None, description="What had no effect; absent if there is nothing.")


class Replica(BaseModel):
    """The one process of a model."""

    model_config = with_example(_REPLICA)

    replica_id: int
    replica_model_uid: str
    status: Status
    progress: float = Field(ge=0, le=1)


class Replicas(RootModel[list[Replica]]):
    """A model's processes: one."""

    model_config = with_example([_REPLICA])


class LaunchProgress(BaseModel):
    """How far a launch is; `error` says why it ended, null unless it failed."""

    model_config = with_example(
        {"progress": 0.4, "stage": "loading", "download_files": [], "replicas": [_REPLICA], "error": None}
    )

    progress: float = Field(ge=0, le=1)
    stage: str
    download_files: list[dict[str, Any]] = Field(description="Always empty: the stage tells of downloads.")
    replicas: list[Replica]
    error: str | None


class InstanceInfo(BaseModel):
    """One model, whether it is ready or not."""

    model_config = with_example(_INSTANCE)

    model_uid: str
    model_name: str
    model_version: None
    model_type: Literal["video"]
    model_ability: list[str] = Field(description="Empty until the model was loaded.")
    replica: int
    n_worker: int
    status: Status
    instance_created_ts: int
    state: InstanceState = Field(description="The same in finer words: an unloaded model is READY, too.")
    progress: float = Field(ge=0, le=1)
    stage: str
    error: str | None
    error_code: str | None
    source: str = Field(description="The hub id or name that it is loaded from; of a folder the last part.")
    configured: bool = Field(description="Whether the operator's settings name it.")


class InstanceInfos(RootModel[list[InstanceInfo]]):
    """Models, whether they are ready or not."""

    model_config = with_example([_INSTANCE])


def info_of(instance: Instance) -> InstanceInfo:
    """Tell of a model, in Xinference's words and ours."""
    return InstanceInfo(
        model_uid=instance.uid,
        model_name=shown_name(instance),
        model_version=None,
        model_type="video",
        model_ability=[ABILITIES[task] for task in instance.card.tasks] if instance.card else [],
        replica=1,
        n_worker=1,
        status=STATUSES[instance.state],
        instance_created_ts=int(instance.created_at),
        state=instance.state,
        progress=instance.progress,
        stage=instance.stage,
        error=instance.error,
        error_code=instance.error_code,
        source=_source(instance),
        configured=instance.configured,
    )


def replica_of(instance: Instance) -> Replica:
    """Tell of a model's process."""
    return Replica(
        replica_id=0,
        replica_model_uid=f"{instance.uid}-0",
        status=STATUSES[instance.state],
        progress=instance.progress,
    )


def progress_of(instance: Instance) -> LaunchProgress:
    """Tell how far a launch is."""
    return LaunchProgress(
        progress=instance.progress,
        stage=instance.stage,
        download_files=[],
        replicas=[replica_of(instance)],
        error=instance.error,
    )


def _source(instance: Instance) -> str:
    """Return where a model is loaded from, as far as everybody may know it."""
    model = instance.spec.model
    shown = HUB_ID.fullmatch(model) and not instance.configured
    return model if shown else model.rstrip("/").rpartition("/")[2]

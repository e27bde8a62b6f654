"""Xinference's questions about the server: its version, its machine, who works.

One server is supervisor and worker at once; its address is the one that the caller used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, RootModel

from vitascope import __version__
from vitascope.api.launch_answers import with_example
from vitascope.api.models import listing
from vitascope.api.services import Services
from vitascope.config.processes import available_cores

NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")  # a folder for each, where there is a driver
_ADDRESS = "127.0.0.1:8000"
_NODE: dict[str, Any] = {"node_type": "Supervisor", "ip_address": _ADDRESS, "cpu_count": 16, "gpu_count": 1}


class Version(BaseModel):
    """The server's version, with the other keys of Xinference's answer empty."""

    model_config = with_example(
        {"version": __version__, "full-revisionid": None, "dirty": None, "error": None, "date": None}
    )

    version: str
    revision: None = Field(default=None, serialization_alias="full-revisionid")
    dirty: None = None
    error: None = None
    date: None = None


class Node(BaseModel):
    """A machine: this one. GPUs are those that NVIDIA's driver shows."""

    model_config = with_example(_NODE)

    node_type: str
    ip_address: str
    cpu_count: int
    gpu_count: int


class Nodes(RootModel[list[Node]]):
    """The machines: this one."""

    model_config = with_example([_NODE])


class Count(RootModel[int]):
    """A number."""

    model_config = with_example(1)


class WorkerInfo(BaseModel):
    """Who works, and the models that are served, by uid."""

    model_config = with_example({"work-ip": _ADDRESS, "models": {}})

    address: str = Field(serialization_alias="work-ip")
    models: dict[str, dict[str, Any]]


class WorkerInfos(RootModel[list[WorkerInfo]]):
    """Those who work: this server."""

    model_config = with_example([{"work-ip": _ADDRESS, "models": {}}])


class SupervisorInfo(BaseModel):
    """Who leads."""

    model_config = with_example({"supervisor_ip": _ADDRESS})

    supervisor_ip: str


class Address(RootModel[str]):
    """Host and port."""

    model_config = with_example(_ADDRESS)


class XinferenceCluster:
    """The routes; `created` is the unix time that served models show."""

    def __init__(self, services: Services, *, created: int) -> None:
        self._services = services
        self._created = created

    def router(self) -> APIRouter:
        """Make the routes, documented."""
        routes = APIRouter(prefix="/v1", tags=["Xinference"])
        for path, call, model in (
            ("/cluster/version", self.version, Version),
            ("/cluster/info", self.nodes, Nodes),
            ("/cluster/devices", self.num_devices, Count),
            ("/workers", self.workers, WorkerInfos),
            ("/supervisor", self.supervisor, SupervisorInfo),
            ("/address", self.address, Address),
        ):
            routes.add_api_route(path, call, methods=["GET"], response_model=model)
        return routes

    async def version(self) -> Version:
        """Tell the version of this server."""
        return Version(version=__version__)

    async def nodes(self, request: Request) -> Nodes:
        """List the machines: this one."""
        node = Node(
            node_type="Supervisor",
            ip_address=_address(request),
            cpu_count=available_cores(),
            gpu_count=_num_gpus(),
        )
        return Nodes([node])

    async def num_devices(self) -> Count:
        """Count the GPUs that NVIDIA's driver shows."""
        return Count(_num_gpus())

    async def workers(self, request: Request) -> WorkerInfos:
        """List who works: this server, with the models it serves."""
        return WorkerInfos(
            [WorkerInfo(address=_address(request), models=listing(self._services, self._created))]
        )

    async def supervisor(self, request: Request) -> SupervisorInfo:
        """Name who leads: this server."""
        return SupervisorInfo(supervisor_ip=_address(request))

    async def address(self, request: Request) -> Address:
        """Tell the address of this server, as the caller wrote it."""
        return Address(_address(request))


def _address(request: Request) -> str:
    return request.url.netloc


def _num_gpus() -> int:
    try:
        return sum(1 for _ in NVIDIA_GPUS.iterdir())
    except OSError:
        return 0

"""Xinference's launch routes: models launched, followed, cancelled and terminated while the server runs.

Who may launch what is decided behind `Launching`, not here.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request

from vitascope.api.errors import refusals
from vitascope.api.intake import read_body
from vitascope.api.launch_answers import (
    InstanceInfos,
    Launched,
    LaunchProgress,
    Nothing,
    Replicas,
    info_of,
    progress_of,
    replica_of,
)
from vitascope.api.launch_body import read_launch, registered_names
from vitascope.api.launch_schema import LAUNCH_BODY
from vitascope.api.services import Services
from vitascope.api.values import FLAG
from vitascope.errors import LaunchCancelled
from vitascope.launch import InstanceState

CANCELLED: dict[int | str, dict[str, Any]] = {499: {"description": "Cancelled or terminated meanwhile"}}
Uid = Annotated[str, Path(description="The model's uid, whether it is ready or not.")]


class XinferenceModels:
    """The routes."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._launching = services.launching

    def router(self) -> APIRouter:
        """Make the routes, documented; to stand before `/v1/models/{model}`, which matches `instances`."""
        routes = APIRouter(prefix="/v1/models", tags=["Xinference"])
        routes.add_api_route(
            "",
            self.launch,
            methods=["POST"],
            response_model=Launched,
            response_model_exclude_none=True,
            responses=refusals(400, 415, 503) | CANCELLED,
            openapi_extra={"requestBody": LAUNCH_BODY},
        )
        one = "/{model_uid}"
        for method, path, call, model, statuses in (
            ("GET", "/instances", self.instances, InstanceInfos, ()),
            ("DELETE", one, self.terminate, Nothing, (404,)),
            ("POST", f"{one}/cancel", self.cancel, Nothing, (400, 404)),
            ("GET", f"{one}/progress", self.progress, LaunchProgress, (404,)),
            ("GET", f"{one}/replicas", self.replicas, Replicas, (404,)),
        ):
            routes.add_api_route(
                path, call, methods=[method], response_model=model, responses=refusals(*statuses)
            )
        return routes

    async def launch(
        self,
        request: Request,
        wait_ready: Annotated[
            str, Query(description="false: answer at once; `/progress` and `/instances` tell the rest.")
        ] = "true",
    ) -> Launched:
        """Launch a model and wait until it is ready. Every key acts, or the answer says why it does not."""
        waits = FLAG.read("wait_ready", wait_ready)
        settings = self._services.settings
        body = await read_body(request, max_bytes=settings.max_body_bytes)
        launch = read_launch(body, await self._services.off_loop(registered_names, settings))
        instance = await self._launching.launch(launch.spec)
        if instance.state is InstanceState.TERMINATED:  # before it was written down
            raise LaunchCancelled(f"The launch of {instance.uid} was cancelled.")
        if waits:
            instance = await self._launching.wait(instance.uid)
        return Launched(model_uid=instance.uid, warnings=list(launch.warnings) or None)

    async def instances(
        self,
        model_name: Annotated[str | None, Query(description="Only those of this name.")] = None,
        model_uid: Annotated[str | None, Query(description="Only this one; wins over the name.")] = None,
    ) -> InstanceInfos:
        """List all models, those that are being loaded or could not be, too."""
        found = [info_of(instance) for instance in self._launching.instances()]
        if model_uid is not None:
            found = [info for info in found if info.model_uid == model_uid]
        elif model_name is not None:
            found = [info for info in found if info.model_name == model_name]
        return InstanceInfos(found)

    async def terminate(self, model_uid: Uid) -> Nothing:
        """Terminate a model, in whatever state. Its waiting and running jobs fail, finished ones stay."""
        await self._launching.terminate(model_uid)
        return Nothing(None)

    async def cancel(self, model_uid: Uid) -> Nothing:
        """Give up a launch that is under way."""
        await self._launching.cancel(model_uid)
        return Nothing(None)

    async def progress(self, model_uid: Uid) -> LaunchProgress:
        """Tell how far a launch is."""
        return progress_of(self._launching.instance(model_uid))

    async def replicas(self, model_uid: Uid) -> Replicas:
        """List a model's processes, of which there is one."""
        return Replicas([replica_of(self._launching.instance(model_uid))])

"""What steers one generation, and what a sample is to the transformer at its current step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vitascope.models.family import Sample
from vitascope.models.ltx2.denoiser import Turn
from vitascope.models.ltx2.guidance import Guidance
from vitascope.models.ltx2.image import Condition
from vitascope.models.ltx2.latents import Grid, pack, unpack
from vitascope.models.ltx2.schedule import EulerSolver
from vitascope.models.ltx2.text import Text
from vitascope.sampling.trajectory import Streams


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What steers one generation.

    `negative` and `guidance` are None without guidance, `condition` without pictures. The coordinates place
    each token in seconds and pixels: (1, 3, video tokens, 2) and (1, 1, sound tokens, 2).
    """

    grid: Grid
    positive: Text
    negative: Text | None
    guidance: Guidance | None
    condition: Condition | None
    video_coords: Tensor
    audio_coords: Tensor


def turn_of(sample: Sample) -> Turn:
    """Lay a sample out as tokens, with those of its pictures."""
    cond: Conditioning = sample.conditioning
    trajectory, condition = sample.trajectory, cond.condition
    solver = trajectory.solvers["video"]
    assert isinstance(solver, EulerSolver)  # `begin` made it
    video, timestep = pack(trajectory.latents["video"]), trajectory.timestep
    video_timestep = timestep
    if condition is not None:
        video = condition.extend(video)
        video_timestep = timestep * (1 - condition.given[0, :, 0])
    return Turn(
        grid=cond.grid,
        video=video,
        audio=trajectory.latents["audio"],
        timestep=timestep,
        video_timestep=video_timestep,
        sigma=solver.sigmas[trajectory.step],
        video_coords=cond.video_coords,
        audio_coords=cond.audio_coords,
    )


def flow_of(turn: Turn, cond: Conditioning, clean: Streams) -> Streams:
    """Return the flow to clean estimates; what pictures fix does not move."""
    if cond.condition is not None:
        clean = {**clean, "video": cond.condition.impose(clean["video"])}
    flow = turn.flow(clean)
    return {**flow, "video": unpack(flow["video"][:, : cond.grid.num_tokens], cond.grid)}

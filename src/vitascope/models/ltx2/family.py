"""The LTX-2 family: the arithmetic of its loop, on diffusers' networks, for video and sound together."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from functools import cached_property

import torch
from diffusers import LTX2Pipeline
from diffusers.utils.torch_utils import randn_tensor
from torch import Generator, Tensor

from vitascope.errors import InvalidRequest
from vitascope.media.arrays import Picture
from vitascope.models.adapters import Adapters
from vitascope.models.family import Chunk, Media, Sample
from vitascope.models.ltx2.card import card_of, native_guidance
from vitascope.models.ltx2.conditioning import Conditioning, flow_of, turn_of
from vitascope.models.ltx2.denoiser import Denoiser, Turn
from vitascope.models.ltx2.guidance import Estimates, Guidance, guide
from vitascope.models.ltx2.image import Condition, first_frame_condition, keyframes_condition
from vitascope.models.ltx2.latents import Grid, pack, pack_audio, unpack, unpack_audio
from vitascope.models.ltx2.parts import Ltx2Parts, load_parts
from vitascope.models.ltx2.schedule import make_euler
from vitascope.models.pixels import Sketch, to_pixels
from vitascope.models.prompts import unread
from vitascope.request import GenerationRequest
from vitascope.sampling.guidance import guides
from vitascope.sampling.trajectory import Streams, Trajectory
from vitascope.weights.checkpoint import Checkpoint, Placement

# Frames that are turned into pixels at once: what the device need not hold twice.
_FRAMES_PER_CHUNK = 16


class Ltx2Family:
    """One loaded LTX-2 checkpoint."""

    def __init__(self, parts: Ltx2Parts, checkpoint: Checkpoint, placement: Placement) -> None:
        self.card = card_of(checkpoint, parts)
        self.device = placement.device
        self._parts = parts
        self.adapters = Adapters([parts.transformer], convert=LTX2Pipeline.lora_state_dict)
        self._guidance = native_guidance(parts)
        self._denoise = Denoiser(parts.transformer, placement.dtype, crossed=not parts.is_first_version)

    def encode(self, request: GenerationRequest, media: Media) -> Conditioning:
        """Turn prompt and pictures into text embeddings, given tokens and coordinates.

        A guidance scale of 1 asks for the plain prediction: one pass, no guidance of any kind.
        """
        grid, transformer = self._grid(request), self._parts.transformer
        guided = guides(request.guidance_scale)
        condition = self._condition(request, media, grid)
        video_coords = transformer.rope.prepare_video_coords(
            1, grid.frames, grid.height, grid.width, self.device, fps=request.fps
        )
        if condition is not None and condition.keyframe_coords is not None:
            video_coords = torch.cat([video_coords, condition.keyframe_coords], dim=2)
        return Conditioning(
            grid=grid,
            positive=self._parts.text(request.prompt),
            negative=self._parts.text(request.negative_prompt) if guided else None,
            guidance=self._guidance.with_text(request.guidance_scale) if guided else None,
            condition=condition,
            video_coords=video_coords,
            audio_coords=transformer.audio_rope.prepare_audio_coords(1, grid.audio_frames, self.device),
        )

    def unread(self, request: GenerationRequest) -> tuple[str, ...]:
        """Warn of what Gemma does not read of the prompts."""
        return unread(request, self._parts.text.extent, guided=guides(request.guidance_scale))

    def begin(
        self, request: GenerationRequest, conditioning: Conditioning, generator: Generator
    ) -> Trajectory:
        """Draw float32 noise, the video's before the sound's, and make a fresh solver for each.

        Streams: "video", (1, C, T, H, W), without appended tokens; "audio", (1, L, D).
        """
        grid, condition = conditioning.grid, conditioning.condition
        video, audio = self._noise(conditioning, generator)
        if condition is not None:
            video = condition.impose(video)
        solvers = {
            stream: make_euler(
                self._parts.scheduler, request.num_inference_steps, video.shape[1], self.device
            )
            for stream in ("video", "audio")
        }
        latents = unpack(video[:, : grid.num_tokens], grid).contiguous()
        return Trajectory({"video": latents, "audio": audio}, dict(solvers))

    def batch_key(self, sample: Sample) -> Hashable:
        """Let samples share passes when sizes and the number of passes agree."""
        cond: Conditioning = sample.conditioning
        return (
            cond.grid,
            cond.video_coords.shape,
            cond.condition is None,
            cond.negative is None,
        )

    def predict(self, samples: Sequence[Sample]) -> list[Streams]:
        """Predict the flow of each sample's streams, up to four estimates where guided."""
        conds: list[Conditioning] = [s.conditioning for s in samples]
        turns = [turn_of(s) for s in samples]
        if conds[0].guidance is None:
            cleans = self._denoise(turns, [c.positive for c in conds])
        else:
            cleans = self._guided(turns, conds)
        return [flow_of(t, c, clean) for t, c, clean in zip(turns, conds, cleans, strict=True)]

    def finish(self, sample: Sample) -> Streams:
        """Return the final latents in the VAEs' own scales: (1, C, T, H, W) and (1, C, L, M)."""
        latents, sound = sample.trajectory.latents, self._parts.sound
        return {
            "video": self._parts.vae.denormalized(latents["video"]),
            "audio": unpack_audio(sound.denormalized(latents["audio"]), sound.channels),
        }

    def decode(self, sample: Sample) -> Iterator[Chunk]:
        """Yield the frames, decoded together, in pieces; the sound comes with the last one."""
        latents = self.finish(sample)
        video = self._parts.vae.decode(latents["video"])
        *pieces, last = torch.split(video, _FRAMES_PER_CHUNK, dim=2)
        for piece in pieces:
            yield Chunk(to_pixels(piece))
        sound = self._parts.sound
        yield Chunk(to_pixels(last), audio=sound.decode(latents["audio"]), sample_rate=sound.sample_rate)

    def decode_blank(self, num_frames: int, height: int, width: int) -> Iterator[Tensor]:
        """Run the decoder on latents without content, all frames at once."""
        vae = self._parts.vae
        frames = (num_frames - 1) // vae.temporal + 1
        shape = 1, vae.channels, frames, height // vae.spatial, width // vae.spatial
        yield vae.decode(torch.empty(shape, device=self.device))

    def preview(self, sample: Sample) -> Picture | None:
        """Sketch the middle frame of the clean estimate."""
        estimate = sample.trajectory.estimate()
        return None if estimate is None else self._sketch.draw(estimate)

    @cached_property
    def _sketch(self) -> Sketch:
        vae = self._parts.vae
        return Sketch.fit(vae.encode, spatial=vae.spatial, num_frames=1 + vae.temporal, device=self.device)

    def _grid(self, request: GenerationRequest) -> Grid:
        vae = self._parts.vae
        return Grid(
            frames=(request.num_frames - 1) // vae.temporal + 1,
            height=request.height // vae.spatial,
            width=request.width // vae.spatial,
            audio_frames=self._parts.sound.num_frames(request.duration_s),
        )

    def _condition(self, request: GenerationRequest, media: Media, grid: Grid) -> Condition | None:
        first, last, vae = media.first_frame, media.last_frame, self._parts.vae
        if first is None:
            return None
        if last is not None and grid.frames == 1:
            raise InvalidRequest(
                f"num_frames is {request.num_frames}; "
                f"two given frames need a clip of at least {vae.temporal + 1}.",
                param="num_frames",
            )
        if last is None:
            return first_frame_condition(first, grid, vae)
        return keyframes_condition(first, last, grid, vae, request.fps)

    def _noise(self, cond: Conditioning, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw noise for every token: as latents or, where a picture is appended, as sequences."""
        vae, sound, grid = self._parts.vae, self._parts.sound, cond.grid

        def draw(*shape: int) -> Tensor:
            noise: Tensor = randn_tensor(shape, generator=generator, device=self.device, dtype=torch.float32)
            return noise

        if cond.condition is not None and cond.condition.keyframe is not None:
            video = draw(1, cond.video_coords.shape[2], vae.channels)
            return video, draw(1, grid.audio_frames, sound.channels * sound.mel_bins)
        video = pack(draw(1, vae.channels, grid.frames, grid.height, grid.width))
        return video, pack_audio(draw(1, sound.channels, grid.audio_frames, sound.mel_bins))

    def _guided(self, turns: list[Turn], conds: list[Conditioning]) -> list[Streams]:
        """One doubled pass for both prompts, and one for each weakened model that the scales ask for."""
        scales, positives = self._guidance, [c.positive for c in conds]
        negatives = [c.negative for c in conds if c.negative is not None]
        both = self._denoise([*turns, *turns], [*negatives, *positives])
        uncond, cond = both[: len(turns)], both[len(turns) :]
        nothing: list[Streams] = [{} for _ in turns]
        perturbed = isolated = nothing
        if scales.perturbs:
            perturbed = self._denoise(turns, positives, perturbed_block=scales.block)
        if scales.isolates:
            isolated = self._denoise(turns, positives, isolated=True)
        return [
            _combined(c.guidance or scales, *estimates)
            for c, *estimates in zip(conds, cond, uncond, perturbed, isolated, strict=True)
        ]


def _combined(
    guidance: Guidance, cond: Streams, uncond: Streams, perturbed: Streams, isolated: Streams
) -> Streams:
    """Guide each stream with its own scales."""
    return {
        stream: guide(
            Estimates(cond[stream], uncond[stream], perturbed.get(stream), isolated.get(stream)), scales
        )
        for stream, scales in guidance.streams.items()
    }


def load(checkpoint: Checkpoint, placement: Placement) -> Ltx2Family:
    """Load an LTX-2 folder.

    Raises:
        CheckpointError: the folder cannot be used.

    """
    return Ltx2Family(load_parts(checkpoint, placement), checkpoint, placement)

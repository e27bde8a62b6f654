"""The HunyuanVideo 1.5 family: the arithmetic of its loop, on diffusers' networks."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Generator, Tensor

from vitascope.media.arrays import Picture
from vitascope.models.adapters import Adapters
from vitascope.models.family import Chunk, Media, Sample
from vitascope.models.hunyuan_video_15.card import card_of
from vitascope.models.hunyuan_video_15.image import Condition, beside, first_frame_condition
from vitascope.models.hunyuan_video_15.parts import HunyuanVideo15Parts, load_parts
from vitascope.models.hunyuan_video_15.text import MAX_TEXT_TOKENS, Text
from vitascope.models.pixels import Sketch, to_pixels
from vitascope.models.text_padding import padded
from vitascope.request import GenerationRequest
from vitascope.sampling.even_sigmas import make_even_solver
from vitascope.sampling.trajectory import Streams, Trajectory
from vitascope.weights.checkpoint import Checkpoint, Placement


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What steers one generation; `negative` is None without guidance, `condition` without a picture."""

    positive: Text
    negative: Text | None
    condition: Condition | None = None


class HunyuanVideo15Family:
    """One loaded HunyuanVideo 1.5 checkpoint."""

    def __init__(self, parts: HunyuanVideo15Parts, checkpoint: Checkpoint, placement: Placement) -> None:
        self.card = card_of(checkpoint, parts)
        self.device = placement.device
        self._dtype = placement.dtype
        self._parts = parts
        self.adapters = Adapters([parts.transformer])

    def encode(self, request: GenerationRequest, media: Media) -> Conditioning:
        """Turn prompt and picture into text embeddings, image tokens and the first frame's latents."""
        guided = self._parts.guider.guides(request.guidance_scale)
        return Conditioning(
            positive=self._text(request, request.prompt),
            negative=self._text(request, request.negative_prompt) if guided else None,
            condition=self._condition(request, media),
        )

    def unread(self, request: GenerationRequest) -> tuple[str, ...]:
        """Warn of what Qwen2.5-VL and ByT5 do not read of the prompts."""
        guided = self._parts.guider.guides(request.guidance_scale)
        return self._parts.text.unread(request, _text_length(request), guided=guided)

    def begin(
        self, request: GenerationRequest, conditioning: Conditioning, generator: Generator
    ) -> Trajectory:
        """Draw noise of the clip's latent shape in the transformer's dtype, and make a fresh solver."""
        del conditioning  # no picture changes the noise
        parts = self._parts
        shape = parts.vae.latent_shape(request.num_frames, request.height, request.width)
        noise = randn_tensor(shape, generator=generator, device=self.device, dtype=self._dtype)
        solver = make_even_solver(
            parts.scheduler,
            request.sample_solver,
            request.num_inference_steps,
            request.flow_shift,
            self.device,
        )
        return Trajectory({"video": noise}, {"video": solver})

    def batch_key(self, sample: Sample) -> Hashable:
        """Let samples share a pass when shapes and the number of passes agree; texts may differ in length."""
        latents, cond = sample.trajectory.latents["video"], sample.conditioning
        return latents.shape, cond.condition is None, self._guided_now(sample)

    def predict(self, samples: Sequence[Sample]) -> list[Streams]:
        """Predict the flow of each sample, two passes where guided."""
        conds: list[Conditioning] = [s.conditioning for s in samples]
        cond = self._forward(samples, [c.positive for c in conds])
        uncond: list[Tensor] | list[None] = [None] * len(cond)
        if self._guided_now(samples[0]):
            uncond = self._forward(samples, [c.negative for c in conds if c.negative is not None])
        combine = self._parts.guider.combine
        return [
            {"video": combine(c, u, s.request.guidance_scale)}
            for c, u, s in zip(cond, uncond, samples, strict=True)
        ]

    def finish(self, sample: Sample) -> Tensor:
        """Return the final latents, (1, C, T, H, W)."""
        return sample.trajectory.latents["video"]

    def decode(self, sample: Sample) -> Iterator[Chunk]:
        """Yield the first frame, then a latent frame's worth at a time."""
        for video in self._parts.vae.decode(self.finish(sample)):
            yield Chunk(to_pixels(video))

    def decode_blank(self, num_frames: int, height: int, width: int) -> Iterator[Tensor]:
        """Run the decoder on latents without content, in the pieces of `decode`."""
        vae = self._parts.vae
        return vae.decode(torch.empty(vae.latent_shape(num_frames, height, width), device=self.device))

    def preview(self, sample: Sample) -> Picture | None:
        """Sketch the middle frame of the clean estimate."""
        estimate = sample.trajectory.estimate()
        return None if estimate is None else self._sketch.draw(estimate)

    @cached_property
    def _sketch(self) -> Sketch:
        vae = self._parts.vae
        return Sketch.fit(vae.encode, spatial=vae.spatial, num_frames=1 + vae.temporal, device=self.device)

    def _text(self, request: GenerationRequest, prompt: str) -> Text:
        return self._parts.text(prompt, _text_length(request))

    def _condition(self, request: GenerationRequest, media: Media) -> Condition | None:
        parts, picture = self._parts, media.first_frame
        if parts.image is None or picture is None:
            return None
        return first_frame_condition(picture, parts.vae, parts.image, request.height, request.width)

    def _guided_now(self, sample: Sample) -> bool:
        trajectory, scale = sample.trajectory, sample.request.guidance_scale
        return self._parts.guider.guides_step(scale, trajectory.step, trajectory.num_steps)

    def _forward(self, samples: Sequence[Sample], texts: list[Text]) -> list[Tensor]:
        """One pass with one text a sample; return the predictions, each (1, C, T, H, W)."""
        parts = self._parts
        embeds, mask, no_padding = padded([t.embeds for t in texts])
        glyphs, glyph_mask, no_glyph_padding = padded([t.glyphs for t in texts])
        with parts.text_mask.for_pass(whole=no_padding and no_glyph_padding):
            prediction: Tensor = parts.transformer(
                hidden_states=torch.cat([self._model_input(s) for s in samples]),
                timestep=torch.stack([s.trajectory.timestep for s in samples]).to(self._dtype),
                timestep_r=self._next_timesteps(samples),
                encoder_hidden_states=embeds,
                encoder_attention_mask=mask,
                encoder_hidden_states_2=glyphs,
                encoder_attention_mask_2=glyph_mask,
                image_embeds=self._image_tokens(samples),
                return_dict=False,
            )[0]
        return list(torch.split(prediction, 1))

    def _model_input(self, sample: Sample) -> Tensor:
        latents = sample.trajectory.latents["video"]
        return torch.cat([latents, beside(latents, sample.conditioning.condition)], dim=1)

    def _image_tokens(self, samples: Sequence[Sample]) -> Tensor:
        """Return the pictures' tokens, (B, tokens, dim); none where the reference has zeros behind a mask."""
        conditions: list[Condition | None] = [s.conditioning.condition for s in samples]
        tokens = [c.tokens for c in conditions if c is not None]
        if tokens:
            return torch.cat(tokens)
        dim = self._parts.transformer.config.image_embed_dim
        return torch.zeros((len(samples), 0, dim), dtype=self._dtype, device=self.device)

    def _next_timesteps(self, samples: Sequence[Sample]) -> Tensor | None:
        """Return where each step leads, for the mean flow of step-distilled models; only pictures' ask."""
        if self._parts.image is None or not self._parts.transformer.config.use_meanflow:
            return None
        ends = []
        for trajectory in (s.trajectory for s in samples):
            timesteps = trajectory.solvers["video"].timesteps
            last = trajectory.step == trajectory.num_steps - 1
            ends.append(torch.zeros_like(timesteps[0]) if last else timesteps[trajectory.step + 1])
        return torch.stack(ends).to(self._dtype)


def _text_length(request: GenerationRequest) -> int:
    return request.max_sequence_length or MAX_TEXT_TOKENS


def load(checkpoint: Checkpoint, placement: Placement) -> HunyuanVideo15Family:
    """Load a HunyuanVideo 1.5 folder.

    Raises:
        CheckpointError: the folder cannot be used.

    """
    return HunyuanVideo15Family(load_parts(checkpoint, placement), checkpoint, placement)

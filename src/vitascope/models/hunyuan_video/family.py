"""The HunyuanVideo family: the arithmetic of its loop, on diffusers' networks."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from diffusers import HunyuanVideoPipeline
from diffusers.utils.torch_utils import randn_tensor
from torch import Generator, Tensor

from vitascope.media.arrays import Picture
from vitascope.models.adapters import Adapters
from vitascope.models.family import Chunk, Media, Sample
from vitascope.models.hunyuan_video.card import card_of
from vitascope.models.hunyuan_video.image import Condition, first_frame_condition
from vitascope.models.hunyuan_video.parts import HunyuanVideoParts, load_parts
from vitascope.models.hunyuan_video.text import MAX_TEXT_TOKENS, Text
from vitascope.models.pixels import Sketch, to_pixels
from vitascope.models.prompts import unread
from vitascope.models.text_padding import padded
from vitascope.request import GenerationRequest
from vitascope.sampling.even_sigmas import make_even_solver
from vitascope.sampling.guidance import classifier_free, guides
from vitascope.sampling.trajectory import Streams, Trajectory
from vitascope.weights.checkpoint import Checkpoint, Placement

# Every so many-th of the picture's tokens goes beside the prompt's, as the reference chooses. Its negative
# prompt is always encoded with the first of these.
_PICTURE_TOKEN_EVERY = {"latent_concat": 2, "token_replace": 4}
_NEGATIVE_PICTURE_TOKEN_EVERY = 2


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What steers one generation; `negative` is None without a second pass, `condition` without a picture."""

    positive: Text
    negative: Text | None
    condition: Condition | None = None


class HunyuanVideoFamily:
    """One loaded HunyuanVideo checkpoint."""

    def __init__(self, parts: HunyuanVideoParts, checkpoint: Checkpoint, placement: Placement) -> None:
        self.card = card_of(checkpoint, parts)
        self.device = placement.device
        self._dtype = placement.dtype
        self._parts = parts
        self.adapters = Adapters([parts.transformer], convert=HunyuanVideoPipeline.lora_state_dict)

    def encode(self, request: GenerationRequest, media: Media) -> Conditioning:
        """Turn prompt and picture into text embeddings and the first frame's latents."""
        guided = guides(self._cfg_scale(request))
        parts, picture = self._parts, media.first_frame
        if parts.way is None or picture is None:
            return Conditioning(
                positive=self._text(request, request.prompt),
                negative=self._text(request, request.negative_prompt) if guided else None,
            )
        every = _PICTURE_TOKEN_EVERY[parts.way]
        black = np.zeros_like(picture)
        return Conditioning(
            positive=self._picture_text(request, request.prompt, picture, every),
            negative=self._picture_text(
                request, request.negative_prompt, black, _NEGATIVE_PICTURE_TOKEN_EVERY
            )
            if guided
            else None,
            condition=first_frame_condition(picture, parts.way, parts.vae, request.height, request.width),
        )

    def unread(self, request: GenerationRequest) -> tuple[str, ...]:
        """Warn of what LLaMA does not read of the prompts."""
        text = self._parts.text if self._parts.way is None else self._parts.picture_text
        assert text is not None  # the card offers its task only with it
        measure = partial(text.extent, length=request.max_sequence_length or MAX_TEXT_TOKENS)
        return unread(request, measure, guided=guides(self._cfg_scale(request)))

    def begin(
        self, request: GenerationRequest, conditioning: Conditioning, generator: Generator
    ) -> Trajectory:
        """Draw float32 noise of the clip's latent shape, mix the picture in, and make a fresh solver."""
        parts, condition = self._parts, conditioning.condition
        shape = list(parts.vae.latent_shape(request.num_frames, request.height, request.width))
        if condition is not None:
            shape[2] += condition.extra_frames
        noise = randn_tensor(tuple(shape), generator=generator, device=self.device, dtype=torch.float32)
        solver = make_even_solver(
            parts.scheduler,
            request.sample_solver,
            request.num_inference_steps,
            request.flow_shift,
            self.device,
        )
        return Trajectory({"video": noise if condition is None else condition.mix(noise)}, {"video": solver})

    def batch_key(self, sample: Sample) -> Hashable:
        """Let samples share a pass when shapes and the number of passes agree; texts may differ in length."""
        latents = sample.trajectory.latents["video"]
        return latents.shape, latents.dtype, sample.conditioning.negative is None

    def predict(self, samples: Sequence[Sample]) -> list[Streams]:
        """Predict the flow of each sample; a second pass where guided by a negative prompt."""
        conds: list[Conditioning] = [s.conditioning for s in samples]
        hidden = torch.cat([self._model_input(s) for s in samples]).to(self._dtype)
        timestep = torch.stack([self._timestep(s) for s in samples])
        guidance = self._embedded_guidance(samples)

        def run(texts: list[Text]) -> list[Tensor]:
            predicted = torch.split(self._forward(hidden, timestep, texts, guidance), 1)
            return [
                p if c.condition is None else c.condition.moving(p)
                for p, c in zip(predicted, conds, strict=True)
            ]

        cond = run([c.positive for c in conds])
        if conds[0].negative is None:
            return [{"video": c} for c in cond]
        uncond = run([c.negative for c in conds if c.negative is not None])
        return [
            {"video": classifier_free(c, u, self._cfg_scale(s.request))}
            for c, u, s in zip(cond, uncond, samples, strict=True)
        ]

    def finish(self, sample: Sample) -> Tensor:
        """Return the latents of the clip, (1, C, T, H, W)."""
        return _shown(sample, sample.trajectory.latents["video"])

    def decode(self, sample: Sample) -> Iterator[Chunk]:
        """Yield a dozen frames at a time."""
        vae, latents = self._parts.vae, sample.trajectory.latents["video"]
        condition: Condition | None = sample.conditioning.condition
        unseen = 0
        if condition is not None and condition.extra_frames:
            unseen = condition.extra_frames * vae.temporal  # decoded and thrown away, as the reference does
        else:
            latents = _shown(sample, latents)
        for video in vae.decode(latents):
            shown = video[:, :, unseen:]
            unseen = max(unseen - video.shape[2], 0)
            if shown.shape[2]:
                yield Chunk(to_pixels(shown))

    def decode_blank(self, num_frames: int, height: int, width: int) -> Iterator[Tensor]:
        """Run the decoder on latents without content, in the pieces of `decode`."""
        vae = self._parts.vae
        return vae.decode(torch.empty(vae.latent_shape(num_frames, height, width), device=self.device))

    def preview(self, sample: Sample) -> Picture | None:
        """Sketch the middle frame of the clean estimate."""
        estimate = sample.trajectory.estimate()
        return None if estimate is None else self._sketch.draw(_shown(sample, estimate))

    @cached_property
    def _sketch(self) -> Sketch:
        vae = self._parts.vae
        return Sketch.fit(vae.encode, spatial=vae.spatial, num_frames=1 + vae.temporal, device=self.device)

    def _cfg_scale(self, request: GenerationRequest) -> float:
        """Return the scale of the guidance that takes a second pass.

        Where guidance is distilled into the model, `guidance_scale` is its input and `true_cfg_scale` this
        one; elsewhere there is one kind of guidance, and `guidance_scale` is it.
        """
        if self._parts.embeds_guidance:
            return 1.0 if request.true_cfg_scale is None else request.true_cfg_scale
        return request.guidance_scale

    def _text(self, request: GenerationRequest, prompt: str) -> Text:
        assert self._parts.text is not None  # the card offers t2v only with it
        return self._parts.text(prompt, request.max_sequence_length or MAX_TEXT_TOKENS)

    def _picture_text(self, request: GenerationRequest, prompt: str, picture: Picture, every: int) -> Text:
        assert self._parts.picture_text is not None  # the card offers i2v only with it
        length = request.max_sequence_length or MAX_TEXT_TOKENS
        return self._parts.picture_text(prompt, picture, length, every=every)

    def _model_input(self, sample: Sample) -> Tensor:
        latents = sample.trajectory.latents["video"]
        condition: Condition | None = sample.conditioning.condition
        return latents if condition is None else condition.model_input(latents)

    def _timestep(self, sample: Sample) -> Tensor:
        """Return the timestep in the precision of the latents, as the reference rounds it."""
        latents = sample.trajectory.latents["video"]
        condition: Condition | None = sample.conditioning.condition
        dtype = latents.dtype if condition is None else condition.precision(latents)
        return sample.trajectory.timestep.to(dtype)

    def _embedded_guidance(self, samples: Sequence[Sample]) -> Tensor | None:
        if not self._parts.embeds_guidance:
            return None
        where: dict[str, Any] = {"dtype": self._dtype, "device": self.device}
        return torch.cat([torch.full((1,), s.request.guidance_scale, **where) for s in samples]) * 1000.0

    def _forward(
        self, hidden: Tensor, timestep: Tensor, texts: list[Text], guidance: Tensor | None
    ) -> Tensor:
        """One pass: (B, C, T, H, W) in, the same of the latents' channels out."""
        parts = self._parts
        embeds, mask, whole = padded([t.embeds for t in texts])
        with parts.text_mask.for_pass(whole=whole):
            prediction: Tensor = parts.transformer(
                hidden_states=hidden,
                timestep=timestep,
                encoder_hidden_states=embeds,
                encoder_attention_mask=mask,
                pooled_projections=torch.cat([t.pooled for t in texts]),
                guidance=guidance,
                return_dict=False,
            )[0]
        return prediction


def _shown(sample: Sample, latents: Tensor) -> Tensor:
    condition: Condition | None = sample.conditioning.condition
    return latents if condition is None else condition.shown(latents)


def load(checkpoint: Checkpoint, placement: Placement) -> HunyuanVideoFamily:
    """Load a HunyuanVideo folder.

    Raises:
        CheckpointError: the folder cannot be used.

    """
    return HunyuanVideoFamily(load_parts(checkpoint, placement), checkpoint, placement)

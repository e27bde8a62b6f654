"""The CogVideoX family: the arithmetic of its loop, on diffusers' networks."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from diffusers import CogVideoXPipeline
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from PIL import Image
from torch import Generator, Tensor

from vitascope.media.arrays import Picture
from vitascope.models.adapters import Adapters
from vitascope.models.cogvideox.card import DYNAMIC, card_of
from vitascope.models.cogvideox.parts import CogVideoXParts, load_parts
from vitascope.models.cogvideox.positions import Rotary, rotary_positions
from vitascope.models.cogvideox.vae import Posterior
from vitascope.models.family import Chunk, Media, Sample
from vitascope.models.pixels import Sketch, to_pixels
from vitascope.models.prompts import unread
from vitascope.request import GenerationRequest
from vitascope.sampling.cogvideox import make_solver
from vitascope.sampling.guidance import classifier_free, guides
from vitascope.sampling.trajectory import Streams, Trajectory
from vitascope.weights.checkpoint import Checkpoint, Placement

_OFFSET = 2.0  # what CogVideoX 1.5's image-to-video network is told at every step; the authors' constant


@dataclass(slots=True)
class Conditioning:
    """What steers one generation; `negative` is None without guidance, `first_frame` without a picture.

    `image_latents`, (1, T, C, H, W), is drawn from `first_frame` in `begin`, before the noise, as the
    reference does.
    """

    positive: Tensor  # (1, L, D)
    negative: Tensor | None
    rotary: Rotary | None
    first_frame: Posterior | None = None
    image_latents: Tensor | None = None


class CogVideoXFamily:
    """One loaded CogVideoX checkpoint. Latents are (1, T, C, H, W), in the transformer's dtype."""

    def __init__(self, parts: CogVideoXParts, checkpoint: Checkpoint, placement: Placement) -> None:
        self.card = card_of(checkpoint, parts)
        self.device = placement.device
        self._dtype = placement.dtype
        self._parts = parts
        self.adapters = Adapters([parts.transformer], convert=CogVideoXPipeline.lora_state_dict)

    def encode(self, request: GenerationRequest, media: Media) -> Conditioning:
        """Turn prompt and picture into text embeddings, positions and the first frame's posterior."""
        parts = self._parts
        config = parts.transformer.config
        length = self._text_length(request)
        return Conditioning(
            positive=parts.text(request.prompt, length),
            negative=parts.text(request.negative_prompt, length) if guides(request.guidance_scale) else None,
            rotary=rotary_positions(config, parts.latent_shape(request), self.device),
            first_frame=self._first_frame(request, media),
        )

    def unread(self, request: GenerationRequest) -> tuple[str, ...]:
        """Warn of what T5 does not read of the prompts."""
        length, text = self._text_length(request), self._parts.text
        guided = guides(request.guidance_scale)
        return unread(request, partial(text.extent, length=length), guided=guided)

    def begin(
        self, request: GenerationRequest, conditioning: Conditioning, generator: Generator
    ) -> Trajectory:
        """Draw the first frame's latents, then the noise, and make a fresh solver."""
        shape = self._parts.latent_shape(request)
        if conditioning.first_frame is not None:
            drawn = conditioning.first_frame.draw(generator, self._dtype)
            rest = drawn.new_zeros(1, shape[1] - 1, *shape[2:])
            conditioning.image_latents = torch.cat([drawn, rest], dim=1)
        noise = randn_tensor(shape, generator=generator, device=self.device, dtype=self._dtype)
        name = "dpm" if request.sample_solver == DYNAMIC else request.sample_solver
        solver = make_solver(self._parts.scheduler, name, request.num_inference_steps, generator)
        return Trajectory({"video": noise}, {"video": solver})

    def batch_key(self, sample: Sample) -> Hashable:
        """Let samples share a pass when their shapes agree and all are guided or none is."""
        cond: Conditioning = sample.conditioning
        return sample.trajectory.latents["video"].shape, cond.positive.shape, cond.negative is None

    def predict(self, samples: Sequence[Sample]) -> list[Streams]:
        """Predict each sample's velocity, negative and positive prompts as one batch where guided."""
        conds: list[Conditioning] = [s.conditioning for s in samples]
        hidden = torch.cat([self._model_input(s) for s in samples])
        timestep = torch.cat([self._timestep(s) for s in samples])
        texts = [c.positive for c in conds]
        negatives = [c.negative for c in conds if c.negative is not None]
        if not negatives:
            plain = self._forward(hidden, timestep, texts, conds[0].rotary)
            return [{"video": prediction} for prediction in torch.split(plain, 1)]
        both = self._forward(
            hidden.repeat(2, 1, 1, 1, 1), timestep.repeat(2), negatives + texts, conds[0].rotary
        )
        pairs = zip(*(torch.split(half, 1) for half in both.chunk(2)), strict=True)
        return [
            {"video": classifier_free(cond, uncond, _scale(sample))}
            for (uncond, cond), sample in zip(pairs, samples, strict=True)
        ]

    def finish(self, sample: Sample) -> Tensor:
        """Return the final latents, (1, T, C, H, W), padding included."""
        return sample.trajectory.latents["video"]

    def decode(self, sample: Sample) -> Iterator[Chunk]:
        """Yield the first nine frames, then eight at a time."""
        padding = self._parts.padding(sample.request.num_frames)
        for video in self._parts.vae.decode(self.finish(sample)[:, padding:]):
            yield Chunk(to_pixels(video))

    def decode_blank(self, num_frames: int, height: int, width: int) -> Iterator[Tensor]:
        """Run the decoder on latents without content, in the pieces of `decode`."""
        vae = self._parts.vae
        shape = (
            1,
            vae.num_latent_frames(num_frames),
            vae.channels,
            height // vae.spatial,
            width // vae.spatial,
        )
        return vae.decode(torch.empty(shape, device=self.device))

    def preview(self, sample: Sample) -> Picture | None:
        """Sketch the middle frame of the clean estimate."""
        estimate = sample.trajectory.estimate()
        return None if estimate is None else self._sketch.draw(estimate.transpose(1, 2))

    @cached_property
    def _sketch(self) -> Sketch:
        vae = self._parts.vae
        return Sketch.fit(vae.encode, spatial=vae.spatial, num_frames=1 + vae.temporal, device=self.device)

    def _text_length(self, request: GenerationRequest) -> int:
        return request.max_sequence_length or int(self._parts.transformer.config.max_text_seq_length)

    def _first_frame(self, request: GenerationRequest, media: Media) -> Posterior | None:
        if media.first_frame is None:
            return None
        processor = VideoProcessor(vae_scale_factor=self._parts.vae.spatial)
        picture = Image.fromarray(media.first_frame)
        pixels = processor.preprocess(picture, height=request.height, width=request.width)
        return self._parts.vae.encode_picture(pixels)

    def _model_input(self, sample: Sample) -> Tensor:
        latents = sample.trajectory.latents["video"]
        image: Tensor | None = sample.conditioning.image_latents
        return latents if image is None else torch.cat([latents, image], dim=2)

    def _timestep(self, sample: Sample) -> Tensor:
        """Return the timestep, (1,); the host knows its number, so that nothing waits for a copy of it."""
        timestep = sample.trajectory.timestep
        return torch.full((1,), timestep.item(), dtype=timestep.dtype, device=self.device)

    def _forward(
        self, hidden: Tensor, timestep: Tensor, texts: list[Tensor], rotary: Rotary | None
    ) -> Tensor:
        """One pass: (B, T, C, H, W) in, the same of `out_channels` out, in float32."""
        network = self._parts.transformer
        offset = None if network.config.ofs_embed_dim is None else hidden.new_full((1,), _OFFSET)
        prediction: Tensor = network(
            hidden_states=hidden,
            encoder_hidden_states=torch.cat(texts),
            timestep=timestep,
            ofs=offset,
            image_rotary_emb=rotary,
            return_dict=False,
        )[0]
        return prediction.float()


def _scale(sample: Sample) -> float:
    """Return the guidance scale of a sample's current step.

    The dynamic one is the reference's `use_dynamic_cfg`: a wave, since it measures timesteps (of 1000) in
    steps. The authors know, and keep it for what it gives: strong guidance without over-exposure.
    """
    scale, steps = sample.request.guidance_scale, sample.request.num_inference_steps
    if sample.request.sample_solver != DYNAMIC:
        return scale
    phase = ((steps - sample.trajectory.timestep.item()) / steps) ** 5.0
    return 1 + scale * ((1 - math.cos(math.pi * phase)) / 2)


def load(checkpoint: Checkpoint, placement: Placement) -> CogVideoXFamily:
    """Load a CogVideoX folder.

    Raises:
        CheckpointError: the folder cannot be used.

    """
    return CogVideoXFamily(load_parts(checkpoint, placement), checkpoint, placement)

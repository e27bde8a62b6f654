"""The Wan family: the arithmetic of its loop, on diffusers' networks."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from diffusers import WanPipeline
from diffusers.utils.torch_utils import randn_tensor
from torch import Generator, Tensor

from vitascope.media.arrays import Picture
from vitascope.models.adapters import Adapters
from vitascope.models.family import Chunk, Media, Sample
from vitascope.models.pixels import Sketch, to_pixels
from vitascope.models.prompts import unread
from vitascope.models.wan.card import TEXT_TOKENS, card_of
from vitascope.models.wan.image import Condition, concatenated_condition, encoded_clip, imposed_condition
from vitascope.models.wan.parts import Expert, WanParts, load_parts
from vitascope.models.wan.text import Text
from vitascope.request import GenerationRequest
from vitascope.sampling.attention_cache import Branch, KeptAttention, plan
from vitascope.sampling.guidance import classifier_free, guides
from vitascope.sampling.solvers import make_solver
from vitascope.sampling.trajectory import Streams, Trajectory
from vitascope.weights.checkpoint import Checkpoint, Placement

# Above this many video tokens the text's keys and values are under a hundredth of a step, while keeping them
# takes up to a gigabyte a generation on the largest model.
_KEEP_TEXT_UP_TO_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What steers one generation; `negative` is None without guidance, `condition` without pictures.

    `source` are the latents of a clip that is made anew. `attention` keeps self-attention between steps, for
    a request that asks for it.
    """

    positive: Text
    negative: Text | None
    image_embeds: Tensor | None = None
    condition: Condition | None = None
    source: Tensor | None = None
    attention: KeptAttention | None = None


@dataclass(frozen=True, slots=True)
class _Turn:
    """What a sample's current step runs on: the expert and its guidance."""

    expert: Expert
    guidance_scale: float


class WanFamily:
    """One loaded Wan checkpoint."""

    def __init__(self, parts: WanParts, checkpoint: Checkpoint, placement: Placement) -> None:
        self.card = card_of(checkpoint, parts)
        self.device = placement.device
        self._dtype = placement.dtype
        self._parts = parts
        self.adapters = _adapters(parts)

    def encode(self, request: GenerationRequest, media: Media) -> Conditioning:
        """Turn prompt, pictures and clip into text embeddings, image tokens and latents."""
        guided = guides(request.guidance_scale)
        return Conditioning(
            positive=self._text(request, request.prompt),
            negative=self._text(request, request.negative_prompt) if guided else None,
            image_embeds=self._image_embeds(request, media),
            condition=self._condition(request, media),
            source=None if media.video is None else encoded_clip(media.video, request, self._parts.vae),
            attention=_kept_attention(request),
        )

    def unread(self, request: GenerationRequest) -> tuple[str, ...]:
        """Warn of what UMT5 does not read of the prompts."""
        length, text = request.max_sequence_length or TEXT_TOKENS, self._parts.text
        guided = guides(request.guidance_scale)
        return unread(request, partial(text.extent, length=length), guided=guided)

    def begin(
        self, request: GenerationRequest, conditioning: Conditioning, generator: Generator
    ) -> Trajectory:
        """Draw float32 noise of the clip's latent shape, over a clip made anew, and make a fresh solver."""
        parts = self._parts
        shape = parts.vae.latent_shape(request.num_frames, request.height, request.width)
        noise = randn_tensor(shape, generator=generator, device=self.device, dtype=torch.float32)
        solver = make_solver(
            parts.scheduler,
            request.sample_solver,
            request.num_inference_steps,
            request.flow_shift,
            self.device,
            num_steps=request.num_steps,
        )
        source = conditioning.source
        first = noise if source is None else solver.noised(source, noise)
        return Trajectory({"video": first}, {"video": solver})

    def batch_key(self, sample: Sample) -> Hashable:
        """Let samples share a pass when expert, shapes and the number of passes agree.

        One that keeps its attention shares none: what is kept is its own.
        """
        cond: Conditioning = sample.conditioning
        image_tokens = None if cond.image_embeds is None else cond.image_embeds.shape
        return (
            id(self._turn(sample).expert),
            sample.trajectory.latents["video"].shape,
            cond.positive.embeds.shape,
            cond.negative is None,
            image_tokens,
            cond.condition is None,
            None if cond.attention is None else id(sample),
        )

    def predict(self, samples: Sequence[Sample]) -> list[Streams]:
        """Predict the flow of each sample, two passes where guided."""
        turns = [self._turn(s) for s in samples]
        conds: list[Conditioning] = [s.conditioning for s in samples]
        hidden = torch.cat([self._model_input(s) for s in samples]).to(self._dtype)
        timestep = torch.stack([self._timestep(s) for s in samples])
        image = None
        if conds[0].image_embeds is not None:
            image = torch.cat([c.image_embeds for c in conds if c.image_embeds is not None])

        attention, step = conds[0].attention, samples[0].trajectory.step
        assert attention is None or len(samples) == 1  # `batch_key` sees to it

        def run(texts: list[Text], branch: str) -> list[Tensor]:
            expert = turns[0].expert
            kept = None if attention is None else attention.branch(branch, step, expert.network)
            prediction = _forward(expert, hidden, timestep, texts, image, attended=kept)
            return [prediction[i : i + 1] for i in range(len(texts))]

        cond = run([c.positive for c in conds], "cond")
        negatives = [c.negative for c in conds if c.negative is not None]
        uncond = run(negatives, "uncond") if negatives else None
        if attention is not None:
            attention.end(step)
        if uncond is None:
            return [{"video": c} for c in cond]
        return [
            {"video": classifier_free(c, u, turn.guidance_scale)}
            for c, u, turn in zip(cond, uncond, turns, strict=True)
        ]

    def finish(self, sample: Sample) -> Tensor:
        """Return the final latents, (1, C, T, H, W), with a given first frame back in its place."""
        latents = sample.trajectory.latents["video"]
        condition: Condition | None = sample.conditioning.condition
        return latents if condition is None else condition.impose(latents)

    def decode(self, sample: Sample) -> Iterator[Chunk]:
        """Yield the first frame, then four at a time."""
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
        embeds = self._parts.text(prompt, request.max_sequence_length or TEXT_TOKENS)
        keeps = self._num_tokens(request) <= _KEEP_TEXT_UP_TO_TOKENS
        return Text(embeds) if keeps else Text(embeds, kept=None)

    def _num_tokens(self, request: GenerationRequest) -> int:
        _, _, frames, height, width = self._parts.vae.latent_shape(
            request.num_frames, request.height, request.width
        )
        patch = self._parts.expert.network.config.patch_size
        tokens: int = frames * height * width // math.prod(patch)
        return tokens

    def _image_embeds(self, request: GenerationRequest, media: Media) -> Tensor | None:
        if request.first_frame is None or self._parts.image is None:
            return None
        return self._parts.image(media) if self._expert(request).network.config.image_dim else None

    def _condition(self, request: GenerationRequest, media: Media) -> Condition | None:
        if request.first_frame is None:
            return None
        make = imposed_condition if self._parts.expand_timesteps else concatenated_condition
        return make(request, media, self._parts.vae)

    def _expert(self, request: GenerationRequest) -> Expert:
        parts = self._parts
        return parts.expert if request.first_frame is None else parts.picture_expert or parts.expert

    def _turn(self, sample: Sample) -> _Turn:
        """Pick the expert for the current noise level: above the boundary the first, below it the second."""
        request, low = sample.request, self._parts.low_noise_expert
        if low is None or sample.trajectory.timestep >= self._boundary(request):
            return _Turn(self._expert(request), request.guidance_scale)
        scale_2 = request.guidance_scale if request.guidance_scale_2 is None else request.guidance_scale_2
        return _Turn(low, scale_2)

    def _boundary(self, request: GenerationRequest) -> float:
        """Return the timestep from which on the first of two experts works."""
        ratio = self._parts.boundary_ratio if request.boundary_ratio is None else request.boundary_ratio
        assert ratio is not None  # two experts have one: `load_parts` sees to it
        num_timesteps: int = self._parts.scheduler.get("num_train_timesteps", 1000)
        return ratio * num_timesteps

    def _model_input(self, sample: Sample) -> Tensor:
        latents = sample.trajectory.latents["video"]
        condition: Condition | None = sample.conditioning.condition
        if condition is None:
            return latents
        if condition.free is None:
            return torch.cat([latents, condition.latents], dim=1)
        return condition.impose(latents)

    def _timestep(self, sample: Sample) -> Tensor:
        """Return a scalar; for Wan 2.2 5B one value a token, 0 where the first frame is given."""
        trajectory = sample.trajectory
        if not self._parts.expand_timesteps:
            return trajectory.timestep
        condition: Condition | None = sample.conditioning.condition
        free = torch.ones_like(trajectory.latents["video"]) if condition is None else condition.free
        assert free is not None  # expand_timesteps conditions impose
        return (free[0, 0, :, ::2, ::2] * trajectory.timestep).flatten()


def _kept_attention(request: GenerationRequest) -> KeptAttention | None:
    if request.attention_cache is None:
        return None
    return KeptAttention(plan(request.attention_cache, request.num_steps))


def _adapters(parts: WanParts) -> Adapters:
    """Take adapters for text and picture siblings alike; parted where noise levels are."""
    high = [e.network for e in (parts.expert, parts.picture_expert) if e is not None]
    low = [] if parts.low_noise_expert is None else [parts.low_noise_expert.network]
    return Adapters(high, low, convert=WanPipeline.lora_state_dict)


def _forward(
    expert: Expert,
    hidden: Tensor,
    timestep: Tensor,
    texts: list[Text],
    image: Tensor | None,
    *,
    attended: Branch | None,
) -> Tensor:
    """One pass: (B, C, T, H, W) in, the same of `out_channels` out. A lone sample's text is kept."""
    kept = texts[0].kept if len(texts) == 1 else None
    with expert.memory.using(kept, attended):
        prediction: Tensor = expert.network(
            hidden_states=hidden,
            timestep=timestep,
            encoder_hidden_states=torch.cat([t.embeds for t in texts]) if len(texts) > 1 else texts[0].embeds,
            encoder_hidden_states_image=image,
            return_dict=False,
        )[0]
    return prediction


def load(checkpoint: Checkpoint, placement: Placement) -> WanFamily:
    """Load a Wan folder.

    Raises:
        CheckpointError: the folder cannot be used.

    """
    return WanFamily(load_parts(checkpoint, placement), checkpoint, placement)

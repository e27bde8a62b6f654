"""Loading a model in this process, and making clips with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitascope.card import ModelCard, Wish, request_warnings, resolve
from vitascope.config import BUNDLED_MODEL
from vitascope.config.model_source import ModelSource
from vitascope.engine.engine import Engine
from vitascope.engine.events import Advanced, Completed, Event, Failed, Warned
from vitascope.engine.load import load_family
from vitascope.errors import GenerationFailed
from vitascope.library.arguments import adapters_of, check_threads, check_types, files_of, wish_of
from vitascope.library.clip import Clip
from vitascope.media.arrays import Picture
from vitascope.media.clips import joined
from vitascope.media.inputs import picture_key
from vitascope.media.local_clips import LocalClip, VideoInput, continuation_of, open_clip, with_clip
from vitascope.media.local_pictures import PictureInput, check_resize_mode, fit_picture, open_picture
from vitascope.media.lossless import clip_key
from vitascope.models.family import Chunk, Media
from vitascope.request import GenerationRequest
from vitascope.weights.reading import OnLoad

OnProgress = Callable[[Advanced], None]
OnDownload = Callable[[int, int], None]


class Model:
    """A loaded model. `card` says what it can do: tasks, native values, rules."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def card(self) -> ModelCard:
        """What the model can do."""
        return self._engine.card

    def generate(
        self,
        prompt: str,
        *,
        image: PictureInput | None = None,
        last_image: PictureInput | None = None,
        video: VideoInput | None = None,
        loras: Mapping[str, float] | None = None,
        on_progress: OnProgress | None = None,
        **wishes: Any,
    ) -> Clip:
        """Make one clip.

        `image` and `last_image` are the frames it begins and ends with: a path, a PIL image or a uint8 array
        (H, W, 3). `video` is a clip to make anew, a path or a uint8 array (T, H, W, 3), with `strength` from
        0 to 1 (0.8); size, rate and length follow it where they are not given, and the clip's `warnings` say
        what was done. `resize_mode` says what becomes of pictures and clips of another size: error, crop or
        pad. `loras` are adapters that were given to `load`, each with its scale.

        Further keywords, each the model's native value unless given: `seed` (random), `height`, `width`,
        `num_frames`, `seconds` (which it beats), `fps`, `num_inference_steps`, `guidance_scale`,
        `guidance_scale_2`, `boundary_ratio`, `true_cfg_scale`, `flow_shift`, `sample_solver`,
        `negative_prompt`, `max_sequence_length`. `attention_cache`, an `AttentionCache`, has steps take
        self-attention from earlier ones, where the model can. `on_progress` is called after each quantum of
        work.

        Raises:
            UnknownField: a keyword that nobody knows.
            InvalidType: a value of another type than its keyword's.
            InvalidMedia: a picture or clip that cannot be read, or has another size.
            InvalidRequest: a value that the model cannot do; the message says what would do.
            OutOfMemory: the clip is too large for the device.

        """
        check_types(on_progress=on_progress)
        resize_mode = check_resize_mode(wishes.pop("resize_mode", "error"))
        media = Media(open_picture(image, "image"), open_picture(last_image, "last_image"))
        wish = wish_of(prompt, media, loras, wishes)
        if video is None:
            return self._make(*_fitted(resolve(wish, self.card), media, resize_mode), on_progress)
        source = self._open(video, wish)
        wish, settled = with_clip(wish, self.card, source, resize_mode=resize_mode)
        request = resolve(wish, self.card)
        frames = source.frames(settled.fit(request))
        clip = self._make(replace(request, video=clip_key(frames)), Media(video=frames), on_progress)
        return replace(clip, warnings=(*settled.warnings, *clip.warnings))

    def extend(
        self,
        prompt: str,
        video: VideoInput,
        *,
        last_image: PictureInput | None = None,
        loras: Mapping[str, float] | None = None,
        on_progress: OnProgress | None = None,
        **wishes: Any,
    ) -> Clip:
        """Let a clip go on: the result is the clip and what follows its last frame, joined.

        `video` is a path or a uint8 array (T, H, W, 3), `seconds` or `num_frames` (counting the frame that
        both share) how much is added, `last_image` where it arrives; further keywords are `generate`'s.

        Raises what `generate` raises.
        """
        check_types(on_progress=on_progress)
        resize_mode = check_resize_mode(wishes.pop("resize_mode", "error"))
        media = Media(last_frame=open_picture(last_image, "last_image"))
        wish = wish_of(prompt, media, loras, wishes)
        source = self._open(video, wish)
        wish, settled = with_clip(wish, self.card, source, resize_mode=resize_mode, continues=True)
        request = resolve(wish, self.card)
        frames = source.frames(settled.fit(request))
        request, media = _fitted(request, replace(media, first_frame=frames[-1]), resize_mode)
        request = replace(request, continues=continuation_of(frames))
        clip = self._make(request, media, on_progress)
        whole = np.concatenate(list(joined([frames], [clip.frames])))
        return replace(clip, frames=whole, warnings=(*settled.warnings, *clip.warnings))

    def _open(self, video: VideoInput, wish: Wish) -> LocalClip:
        return open_clip(video, fps=wish.fps or self.card.defaults.fps)

    def _make(self, request: GenerationRequest, media: Media, on_progress: OnProgress | None) -> Clip:
        chunks: list[Chunk] = []
        warnings = request_warnings(request, self.card)
        done = self._run(request, media, chunks.append, warnings.extend, on_progress)
        return Clip(
            frames=np.concatenate([chunk.frames for chunk in chunks]),
            request=request,
            card=self.card,
            latents=done.latents,
            stats=done.cost,
            warnings=tuple(warnings),
            audio=chunks[-1].audio,
            sample_rate=chunks[-1].sample_rate,
        )

    def _run(
        self,
        request: GenerationRequest,
        media: Media,
        sink: Callable[[Chunk], None],
        warn: Callable[[Sequence[str]], None],
        on_progress: OnProgress | None,
    ) -> Completed:
        job_id = "library"
        self._engine.start(job_id, request, media, sink=sink)
        try:
            while self._engine.busy:
                for event in self._engine.tick():
                    done = _seen(event, warn, on_progress)
                    if done is not None:
                        return done
        finally:
            self._engine.park(job_id)  # whatever stopped it, an interrupt too, the next call starts afresh
        raise GenerationFailed("The engine stopped before the clip was done.")


def load(
    path: str | Path | None = None,
    *,
    device: str = "auto",
    dtype: str | None = None,
    vae_dtype: str = "auto",
    num_threads: int | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    offline: bool = False,
    on_download: OnDownload | None = None,
    on_load: OnLoad | None = None,
    loras: Mapping[str, str | Path] | None = None,
    transformer_path: str | Path | Mapping[str, str | Path] | None = None,
) -> Model:
    """Load a model: the bundled one, a diffusers folder, or a hub id (owner/name).

    `device` is auto, cpu, cuda or cuda:N; `dtype` float32, bfloat16 or float16; `vae_dtype` float32, or auto:
    16 bits on an accelerator where the reference's VAE has them. `num_threads` sets how many CPU threads
    PyTorch uses in this process. For hub ids, `revision` pins a branch, tag or commit,
    `cache_dir` is where they are kept, `offline` never asks the hub, and `on_download` is called with the
    bytes that are here and all. `on_load` is called with the component whose weights are read, the bytes read
    of all and the bytes of all.

    `loras` are adapters to lay beside the weights: files, or folders of one file, by the names that
    `generate` chooses by; with two experts `name` is for both, `name.high` and `name.low` for one.
    `transformer_path` is a .safetensors or .gguf file of weights in place of the folder's transformer; with
    two experts, such files by `transformer` and `transformer_2`.

    Raises:
        InvalidType: an argument of another type.
        CheckpointError: there is no such model or adapter, or it cannot be used.
        ConfigurationError: a device or dtype that is not known or not there, fewer threads than one, or a
            revision of a folder.

    """
    check_types(
        path=path,
        device=device,
        dtype=dtype,
        vae_dtype=vae_dtype,
        num_threads=num_threads,
        revision=revision,
        cache_dir=cache_dir,
        offline=offline,
        on_download=on_download,
        on_load=on_load,
    )
    check_threads(num_threads)
    adapters, replaced = adapters_of(loras), files_of(transformer_path)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    family = load_family(
        ModelSource(
            BUNDLED_MODEL if path is None else path,
            revision=revision,
            cache_dir=None if cache_dir is None else Path(cache_dir),
            offline=offline,
            replaced=replaced,
        ),
        device=device,
        dtype=dtype,
        vae_dtype=vae_dtype,
        on_download=on_download,
        on_load=on_load,
        adapters=adapters,
    )
    return Model(Engine(family))


def _fitted(request: GenerationRequest, media: Media, mode: str) -> tuple[GenerationRequest, Media]:
    """Bring the pictures to the clip's size, and name them in the request."""
    width, height = request.width, request.height
    first = fit_picture(media.first_frame, width, height, mode, param="image")
    last = fit_picture(media.last_frame, width, height, mode, param="last_image")
    named = replace(request, first_frame=_key(first), last_frame=_key(last))
    return named, replace(media, first_frame=first, last_frame=last)


def _seen(
    event: Event, warn: Callable[[Sequence[str]], None], on_progress: OnProgress | None
) -> Completed | None:
    if isinstance(event, Failed):
        raise event.error
    if isinstance(event, Warned):
        warn(event.warnings)
    if isinstance(event, Advanced) and on_progress is not None:
        on_progress(event)
    return event if isinstance(event, Completed) else None


def _key(picture: Picture | None) -> str | None:
    """Name a picture as the server does, so that the request tells which one it was."""
    return None if picture is None else picture_key(picture)

"""What several commands take: which model, which clip, which pictures."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitascope.card import Wish, resolve
from vitascope.cli.prompts import Take
from vitascope.config import Settings, load_settings
from vitascope.config.named_paths import parse_adapter
from vitascope.config.processes import available_cores
from vitascope.errors import InvalidMedia, InvalidRequest
from vitascope.request import AttentionCache

if TYPE_CHECKING:
    from vitascope.card import ModelCard
    from vitascope.library import Model, OnDownload
    from vitascope.media.arrays import Picture
    from vitascope.weights.reading import OnLoad

_FRAMES = ("first_frame", "last_frame")  # what the pictures are in a `Wish`


def _in(panel: str, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False, **more)


def read_attention_cache(text: str) -> AttentionCache:
    """Read START:INTERVAL:END, steps counted from 0."""
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9}):(\d{1,9})", text, re.ASCII)
    if match is None:
        raise typer.BadParameter(f"{text[:40]!r} is not START:INTERVAL:END, for example 12:4:37.")
    start, interval, end = map(int, match.groups())
    return AttentionCache(start_step=start, interval=interval, end_step=end)


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int


def read_size(text: str) -> Size:
    """Read WIDTHxHEIGHT."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text, re.ASCII)
    if match is None:
        raise typer.BadParameter(f"{text[:40]!r} is not WIDTHxHEIGHT, for example 832x480.")
    return Size(int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The model and where it runs. What is not said comes from `VITASCOPE_*` variables, as for the server."""

    model_path: Annotated[
        str | None, _in("Model", "Model folder or hub id (owner/name); the bundled model if not given.")
    ] = None
    model_revision: Annotated[str | None, _in("Model", "Branch, tag or commit of a hub model.")] = None
    model_cache_dir: Annotated[Path | None, _in("Model", "Where hub models are kept.")] = None
    offline: Annotated[bool | None, _in("Model", "Never ask the hub; use what was downloaded before.")] = None
    lora: Annotated[
        list[str] | None,
        _in(
            "Model",
            "Adapter to add: NAME=PATH or NAME=PATH:SCALE; NAME.high=PATH and NAME.low=PATH for one of two "
            "experts. May be repeated.",
            metavar="NAME=PATH",
        ),
    ] = None
    transformer_path: Annotated[
        list[str] | None,
        _in(
            "Model",
            "File of weights (.safetensors or .gguf) in place of the folder's transformer; "
            "transformer_2=FILE for the second of two experts.",
            metavar="FILE",
        ),
    ] = None
    device: Annotated[str | None, _in("Model", "auto, cpu, cuda or cuda:N.")] = None
    dtype: Annotated[str | None, _in("Model", "float32, bfloat16 or float16; by device if not given.")] = None
    vae_dtype: Annotated[
        str | None,
        _in("Model", "float32, or auto: 16 bits on an accelerator where the reference's VAE has them."),
    ] = None
    num_threads: Annotated[
        int | None, _in("Model", "CPU threads; 0 takes the cores of the machine.", metavar="N", min=0)
    ] = None

    def settings(self) -> Settings:
        """Merge the flags with the operator's environment."""
        flags = asdict(self)
        del flags["dtype"]
        return load_settings(
            flags | {"lora": self.lora or None, "transformer_path": self.transformer_path or None}
        )

    def chosen(self) -> dict[str, float]:
        """Return the adapters given here, all of which are meant; their scales are part of what is loaded."""
        return {parse_adapter(text).name: 1.0 for text in self.lora or ()}

    def describe(self, on_download: OnDownload | None = None) -> ModelCard:
        """Tell what the model can do without loading it; `on_download` hears of a hub model's bytes."""
        from vitascope.engine.load import describe_model

        return describe_model(self.settings().model_source, on_download)

    def load(self, on_download: OnDownload | None = None, on_load: OnLoad | None = None) -> Model:
        """Load the model; `on_download` hears of a hub model's bytes, `on_load` of its weights' bytes."""
        from vitascope.library import load

        settings = self.settings()
        return load(
            settings.model_path,
            device=settings.device,
            dtype=self.dtype,
            vae_dtype=settings.vae_dtype,
            num_threads=settings.num_threads or available_cores(),
            revision=settings.model_revision,
            cache_dir=settings.model_cache_dir,
            offline=settings.offline,
            on_download=on_download,
            on_load=on_load,
            loras=dict(text.split("=", 1) for text in settings.lora),
            transformer_path=settings.replaced,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the clip should be besides its prompt; what is not said is the model's native value."""

    negative_prompt: Annotated[str | None, _in("Clip", "What it should not show.")] = None
    height: Annotated[int | None, _in("Clip", "Height in pixels.")] = None
    width: Annotated[int | None, _in("Clip", "Width in pixels.")] = None
    size: Annotated[
        Size | None,
        _in("Clip", "Both at once, for example 832x480.", metavar="WIDTHxHEIGHT", parser=read_size),
    ] = None
    num_frames: Annotated[int | None, _in("Clip", "Number of frames.")] = None
    seconds: Annotated[
        float | None, _in("Clip", "Length instead of --num-frames; the nearest the model can do.")
    ] = None
    fps: Annotated[float | None, _in("Clip", "Frames a second; fractions such as 23.976 are fine.")] = None
    num_inference_steps: Annotated[int | None, _in("Clip", "Denoising steps.")] = None
    guidance_scale: Annotated[float | None, _in("Clip", "How strictly the prompt is followed.")] = None
    guidance_scale_2: Annotated[
        float | None, _in("Clip", "The same for the second, low-noise transformer of a model that has one.")
    ] = None
    boundary_ratio: Annotated[
        float | None, _in("Clip", "Where that second transformer takes over: from 0 to 1 of the noise.")
    ] = None
    true_cfg_scale: Annotated[
        float | None, _in("Clip", "Guidance with a negative prompt, for guidance-distilled models.")
    ] = None
    flow_shift: Annotated[float | None, _in("Clip", "Shift of the noise schedule.")] = None
    sample_solver: Annotated[str | None, _in("Clip", "Solver; `vitascope models show` lists them.")] = None
    max_sequence_length: Annotated[int | None, _in("Clip", "Longest prompt, in tokens.")] = None
    attention_cache: Annotated[
        AttentionCache | None,
        _in(
            "Clip",
            "START:INTERVAL:END: steps that take self-attention from earlier ones; faster, less exact.",
            metavar="STEPS",
            parser=read_attention_cache,
        ),
    ] = None
    strength: Annotated[
        float | None, _in("Clip", "How much of --video-path is made anew, from 0 to 1; 0.8 if not given.")
    ] = None
    seed: Annotated[int | None, _in("Clip", "The same seed makes the same clip; random if not given.")] = None

    def given(self) -> dict[str, Any]:
        """Return what was said, in a wish's words."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        del said["size"]
        if self.size is not None:
            said |= asdict(self.size)
        return {name: value for name, value in said.items() if value is not None}

    def check_agree(self) -> None:
        """Refuse two words for the same thing. Raises `InvalidRequest`."""
        if self.size is not None and (self.width, self.height) != (None, None):
            raise InvalidRequest(
                "size is given beside width or height; leave one or the other out.", param="size"
            )
        if self.seconds is not None and self.num_frames is not None:
            raise InvalidRequest(
                f"seconds is {self.seconds:g} and num_frames {self.num_frames}; give one of them.",
                param="seconds",
            )

    def check(self, take: Take, pictures: Pictures, source: SourceClip, card: ModelCard) -> None:
        """Refuse what the model cannot do, before pictures and weights are read. Raises `InvalidRequest`."""
        frames: dict[str, Any] = dict(zip(_FRAMES, map(str, pictures.paths()), strict=False))
        wish = Wish(**(self.given() | take | frames))
        if source.video_path is None:
            resolve(wish, card)
        else:
            source.check_fits(wish, card, pictures.resize_mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """The frames that the clip begins and ends with."""

    image_path: Annotated[
        list[Path] | None,
        _in(
            "Pictures",
            "First frame (JPEG, PNG or WebP), and the last one if there are two.",
            metavar="FILE...",
        ),
    ] = None
    last_image_path: Annotated[Path | None, _in("Pictures", "Last frame.")] = None
    resize_mode: Annotated[
        str,
        _in("Pictures", "What to do with a picture of another size than the clip: error, crop or pad."),
    ] = "error"

    def paths(self) -> list[Path]:
        """Return the files: none, the first frame, or the first and the last.

        Raises:
            InvalidRequest: more than two, or a last frame alone.

        """
        found = list(self.image_path or ())
        if self.last_image_path is not None:
            if not found:
                raise InvalidRequest("--last-image-path needs --image-path beside it.", param="image_path")
            found.append(self.last_image_path)
        if len(found) > 2:
            raise InvalidRequest(
                f"{len(found)} pictures are given; a clip takes a first and a last frame.", param="image_path"
            )
        return found

    def fitted(self, wishes: Wishes, card: ModelCard, max_pixels: int) -> dict[str, Picture]:
        """Read the pictures in the clip's size, as keywords for `Model.generate`.

        Raises:
            InvalidMedia: a file that cannot be read, is no picture, or has another size.

        """
        given = {"width": card.defaults.width, "height": card.defaults.height} | wishes.given()
        width, height = given["width"], given["height"]
        pictures = [self._fit(path, width, height, max_pixels) for path in self.paths()]
        return dict(zip(("image", "last_image"), pictures, strict=False))

    def check(self) -> None:
        """Refuse what can be refused before a model is loaded. Raises `InvalidRequest`."""
        from vitascope.media.inputs import RESIZE_MODES

        if self.resize_mode not in RESIZE_MODES:
            raise InvalidRequest(
                f"resize_mode is {self.resize_mode!r}; use {', '.join(RESIZE_MODES)}.", param="resize_mode"
            )
        for path in self.paths():
            if not path.is_file():
                raise InvalidMedia(f"There is no picture {str(path)!r}.", param="image_path")

    def _fit(self, path: Path, width: int, height: int, max_pixels: int) -> Picture:
        import numpy as np

        from vitascope.media.inputs import decode, fit

        try:
            return np.asarray(fit(decode(path.read_bytes(), max_pixels), width, height, self.resize_mode))
        except InvalidMedia as error:
            raise InvalidMedia(f"{path}: {error}", param="image_path") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceClip:
    """A clip to start from."""

    video_path: Annotated[
        Path | None, _in("Pictures", "Clip to make anew (MP4, WebM, GIF); see --strength.")
    ] = None
    extend: Annotated[bool, _in("Pictures", "Let that clip go on, instead: --seconds more of it.")] = False

    def check(self, pictures: Pictures) -> None:
        """Refuse what can be refused before a model is loaded. Raises `InvalidRequest`."""
        if self.video_path is None:
            if self.extend:
                raise InvalidRequest("--extend needs --video-path beside it.", param="extend")
            return
        if pictures.paths():
            raise InvalidRequest("--video-path takes no pictures beside it.", param="video_path")
        if not self.video_path.is_file():
            raise InvalidMedia(f"There is no clip {str(self.video_path)!r}.", param="video_path")

    def given(self, resize_mode: str) -> dict[str, Any]:
        """Return the clip as keywords of `Model.generate` and `Model.extend`, if there is one."""
        return {} if self.video_path is None else {"video": self.video_path, "resize_mode": resize_mode}

    def check_fits(self, wish: Wish, card: ModelCard, resize_mode: str) -> None:
        """Refuse a clip that does not do, without decoding it. Raises `InvalidRequest`, `InvalidMedia`."""
        from vitascope.media.local_clips import open_clip, with_clip

        assert self.video_path is not None, "callers look first"
        clip = open_clip(self.video_path, fps=card.defaults.fps)
        wish, settled = with_clip(wish, card, clip, resize_mode=resize_mode, continues=self.extend)
        settled.fit(resolve(wish, card))

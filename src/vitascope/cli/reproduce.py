"""`vitascope reproduce`: make a clip again from what it says about itself, and compare every frame."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

import vitascope
from vitascope.cli.flags import taking
from vitascope.cli.options import Pictures, Runtime, SourceClip, Wishes
from vitascope.cli.output import whole_file
from vitascope.cli.progress import StepBar
from vitascope.errors import InvalidMedia, InvalidRequest
from vitascope.observability.logs import set_up_logging

if TYPE_CHECKING:
    from vitascope.card import ModelCard
    from vitascope.library import Clip
    from vitascope.media.provenance import Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """The clip to make again."""

    clip: Annotated[Path, typer.Argument(help="An MP4 that Vitascope wrote.", show_default=False)]
    output_path: Annotated[
        Path | None, typer.Option(help="New file to write the clip to.", show_default=False)
    ] = None

    def check(self) -> None:
        """Refuse what can be refused before a model is loaded. Raises `InvalidMedia`, `InvalidRequest`."""
        path = self.output_path
        if not self.clip.is_file():
            raise InvalidMedia(f"There is no clip {str(self.clip)!r}.", param="clip")
        if path is not None and path.exists():
            raise InvalidRequest(f"{path} exists; choose another name.", param="output_path")
        if path is not None and not path.parent.is_dir():
            raise InvalidRequest(f"There is no folder {str(path.parent)!r}.", param="output_path")


@taking(Original, Pictures, SourceClip, Runtime)
def reproduce(original: Original, pictures: Pictures, source: SourceClip, runtime: Runtime) -> None:
    """Make a clip again and say whether the frames are identical; exit status 1 if they are not.

    A clip that began from pictures or a clip needs the same ones, and the same --resize-mode, again; one that
    was made with adapters the same --lora, and one with a --transformer-path the same file.
    """
    from vitascope.media.provenance import read_provenance

    set_up_logging("warning")
    original.check()
    told = read_provenance(original.clip)
    pictures.check()
    source.check(pictures)
    _check_sources_given(told, pictures, source)
    with StepBar(Console(stderr=True)) as bar:
        model = runtime.load(on_load=bar.load)
        _check_identity(told, model.card)
        bar.begin()
        wishes = _wishes(told)
        inputs: dict[str, Any] = pictures.fitted(wishes, model.card, runtime.settings().max_input_pixels)
        inputs |= source.given(pictures.resize_mode)
        make = model.generate if told.request.continues is None else model.extend
        clip = make(
            told.request.prompt,
            **wishes.given(),
            **inputs,
            loras=dict(told.request.loras),
            on_progress=bar.update,
        )
    _check_request(told, clip)
    if original.output_path is not None:
        with whole_file(original.output_path) as part:
            clip.save(part)
    raise typer.Exit(_verdict(told, clip, original.clip))


def _wishes(told: Provenance) -> Wishes:
    shared = {f.name for f in fields(Wishes)} & {f.name for f in fields(told.request)}
    return Wishes(**{name: getattr(told.request, name) for name in shared})


def _check_sources_given(told: Provenance, pictures: Pictures, source: SourceClip) -> None:
    request, given = told.request, source.video_path is not None
    if given != (request.video is not None or request.continues is not None):
        what = "without another one; leave --video-path out" if given else "from another; pass --video-path"
        raise InvalidRequest(f"This clip was made {what}.", param="video_path")
    frames = (request.last_frame,) if request.continues else (request.first_frame, request.last_frame)
    needed_pictures, given_pictures = sum(key is not None for key in frames), len(pictures.paths())
    if given_pictures != needed_pictures:
        raise InvalidRequest(
            f"This clip was made from {needed_pictures} pictures and {given_pictures} are given; pass them "
            "with --image-path.",
            param="image_path",
        )


def _check_identity(told: Provenance, card: ModelCard) -> None:
    if told.identity != card.identity:
        raise InvalidRequest(
            f"This clip was made by {told.model} ({told.identity[:12]}), and this model is {card.name} "
            f"({card.identity[:12]}); give the right one with --model-path, and its --transformer-path if it "
            "had one.",
            param="model_path",
        )


def _check_request(told: Provenance, clip: Clip) -> None:
    """Refuse to compare what was not asked the same way: other pictures, or a changed model folder."""
    asked, done = asdict(told.request), asdict(replace(clip.request, model=told.request.model))
    differ = [name for name in asked if asked[name] != done[name]]
    if differ:
        raise InvalidRequest(
            f"The clip cannot be made again from this: {', '.join(differ)} would not be the same.",
            param=differ[0],
        )


def _verdict(told: Provenance, clip: Clip, original: Path) -> int:
    from vitascope.media.video import hash_frames

    if hash_frames(clip.frames) == told.frames_sha256:
        typer.echo(f"identical: all {len(clip.frames)} frames are the same to the bit")
        return 0
    typer.echo(
        f"different: the frames are not the same; the file is {_closeness(original, clip.frames)} from "
        f"the new ones (made by version {told.vitascope}, this is {vitascope.__version__})"
    )
    return 1


def _closeness(original: Path, frames: Any) -> str:
    import numpy as np

    from vitascope.media.video import read_video

    old = read_video(original).frames
    if old.shape != frames.shape:
        return "of another shape"
    error = np.mean((old.astype(np.float32) - frames) ** 2)
    return "0 levels" if error == 0 else f"{10 * math.log10(255**2 / error):.1f} dB PSNR"

"""Where a clip's files go and what they are called; nothing is overwritten unless asked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitascope.errors import InvalidRequest
from vitascope.request import GenerationRequest

if TYPE_CHECKING:
    from vitascope.card import ModelCard
    from vitascope.library import Clip

_SLUG_CHARS = 100


def _option(text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Output", **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The files to write. Without a name, they are called after the prompt, the time and the request."""

    output_path: Annotated[str, _option("Folder for the files; made if it does not exist.")] = "outputs"
    output_file_name: Annotated[
        str | None, _option("Name of the clip's file in that folder.", show_default=False)
    ] = None
    output_file_path: Annotated[
        str | None, _option("Folder and name in one; --output-path has no say then.", show_default=False)
    ] = None
    overwrite: Annotated[bool, _option("Replace files of that name.", "--overwrite")] = False
    save_output: Annotated[bool, _option("Write the clip as MP4.")] = True
    return_frames: Annotated[bool, _option("Also write the frames as npz.", "--return-frames")] = False
    save_audio: Annotated[bool, _option("Also write the sound as WAV.", "--save-audio")] = False
    contact_sheet: Annotated[bool, _option("Also write a sheet of frames as PNG.", "--contact-sheet")] = False

    @property
    def suffixes(self) -> list[str]:
        """The suffixes of the files that will be written."""
        wanted = {
            ".mp4": self.save_output,
            ".wav": self.save_audio,
            ".npz": self.return_frames,
            ".png": self.contact_sheet,
        }
        return [suffix for suffix, is_wanted in wanted.items() if is_wanted]

    def check(self, num_clips: int = 1) -> None:
        """Refuse what can be refused before a clip is made, and make the folder. Raises `InvalidRequest`."""
        folder, stem = self._place()
        if stem is not None:
            for number in range(1, num_clips + 1) if num_clips > 1 else [None]:
                self._check_free(folder, _numbered(stem, number))
        if not self.suffixes:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder):  # it may be there and closed to us, or the disk be full
                pass
        except OSError as error:
            raise InvalidRequest(
                f"The folder {str(folder)!r} cannot be made or written: {error.strerror}.",
                param="output_path",
            ) from None

    def check_sound(self, card: ModelCard) -> None:
        """Refuse to write the sound of a model that makes none. Raises `InvalidRequest`."""
        if self.save_audio and not card.makes_sound:
            raise InvalidRequest(f"{card.name} makes no sound; leave --save-audio out.", param="save_audio")

    def write(self, clip: Clip, number: int | None = None) -> list[Path]:
        """Write the files and return their paths, the clip's first; one of several clips has a number."""
        folder, name = self._place()
        stem = self._free_stem(folder, clip.request) if name is None else _numbered(name, number)
        paths = [folder / f"{stem}{suffix}" for suffix in self.suffixes]
        for path in paths:
            with whole_file(path) as part:
                _write(clip, path.suffix, part)
        return paths

    def _place(self) -> tuple[Path, str | None]:
        """Return the folder, and the name without suffix if there is one."""
        if not self.output_path:
            raise InvalidRequest(
                "output_path is empty; to write nothing use --no-save-output.", param="output_path"
            )
        folder, name = Path(self.output_path), self.output_file_name
        if self.output_file_path is not None:
            given = Path(self.output_file_path)
            if self.output_file_path.endswith("/") or given.is_dir():
                raise InvalidRequest(
                    f"output_file_path is {self.output_file_path!r}, a folder; give a file in it, or use "
                    "--output-path.",
                    param="output_file_path",
                )
            if name is not None and name != given.name:
                raise InvalidRequest(
                    f"output_file_path names {given.name!r} and output_file_name {name!r}; give one of them.",
                    param="output_file_path",
                )
            folder, name = given.parent, given.name
        return folder, None if name is None else _stem(name)

    def _check_free(self, folder: Path, stem: str) -> None:
        for path in (folder / f"{stem}{suffix}" for suffix in self.suffixes):
            if path.exists() and not self.overwrite:
                raise InvalidRequest(
                    f"{path} exists; choose another name or use --overwrite.", param="output_file_name"
                )

    def _free_stem(self, folder: Path, request: GenerationRequest) -> str:
        stem = automatic_name(request, datetime.now().astimezone())
        stems = (stem if n == 1 else f"{stem}-{n}" for n in count(1))
        return next(
            s for s in stems if not any((folder / f"{s}{suffix}").exists() for suffix in self.suffixes)
        )


def automatic_name(request: GenerationRequest, now: datetime) -> str:
    """Name a clip after its prompt, the time, and a hash of the whole request, in at most 125 characters."""
    slug = re.sub(r"[^a-z0-9]+", "_", request.prompt.lower())[:_SLUG_CHARS].strip("_") or "output"
    digest = hashlib.sha256(repr(sorted(asdict(request).items())).encode()).hexdigest()
    return f"{slug}_{now:%Y%m%d-%H%M%S}_{digest[:8]}"


def _numbered(stem: str, number: int | None) -> str:
    return stem if number is None else f"{stem}-{number}"


def _stem(name: str) -> str:
    if name.lower() in {"", "..", ".mp4"} or Path(name).name != name:
        raise InvalidRequest(
            f"output_file_name is {name!r}; give a name without a folder, which --output-path sets.",
            param="output_file_name",
        )
    path = Path(name)
    if path.suffix.lower() not in {"", ".mp4"}:
        raise InvalidRequest(
            f"output_file_name ends in {path.suffix!r}; clips are written as .mp4.", param="output_file_name"
        )
    return path.stem


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a name to write under; the file gets its own name when it is whole, or is removed."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write(clip: Clip, suffix: str, path: Path) -> None:
    from vitascope.media.frames import write_frames
    from vitascope.media.previews import contact_sheet, write_png

    if suffix == ".mp4":
        clip.save(path)
    elif suffix == ".wav":
        clip.save_audio(path)
    elif suffix == ".npz":
        write_frames(path, clip.frames, clip.fps)
    else:
        write_png(path, contact_sheet(clip.frames))

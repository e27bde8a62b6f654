"""Every family and task from prompt to clip: over HTTP, and the same bytes from the command line."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

import tiny_families  # noqa: F401  (adds every family's cases)
from served_here import Here, served_here
from tiny_models import CASES, Tiny, tiny
from vitascope.cli.app import run
from vitascope.config import Settings
from vitascope.media.provenance import read_provenance
from vitascope.media.video import frame_rate, read_video
from vitascope.request import GenerationRequest

ASKED = (
    "prompt", "negative_prompt", "height", "width", "num_frames", "fps", "num_inference_steps",
    "guidance_scale", "guidance_scale_2", "true_cfg_scale", "seed",
)  # fmt: skip
CREATED = sorted(name for name, case in CASES.items() if case.media.video is None)  # clips go to `/edits`
ONE_OF_EACH = ["wan22_flf2v", "hunyuan_i2v_replace", "hunyuan15_t2v", "cogvideox_5b", "ltx23_i2v"]


@pytest.fixture(scope="module", params=["threads", pytest.param("processes", marks=pytest.mark.slow)])
def here(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    """A server that is launched every model in turn; each has a worker of its own."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("families"), port=0, num_threads=1, allow_launch="any"
    )
    with served_here(settings, processes=request.param == "processes") as served:
        yield served


@pytest.fixture(params=CREATED)
def model(request: pytest.FixtureRequest, here: Here) -> Iterator[Tiny]:
    """One of the tests' own folders, served."""
    made = tiny(request.param)
    instance = here.launch(str(made.folder), made.case.name)
    assert instance.card == made.family.card
    yield made
    here.terminate(made.case.name)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def test_a_prompt_becomes_the_same_clip_over_http_and_on_the_command_line(
    model: Tiny, here: Here, tmp_path: Path
) -> None:
    request = model.request()
    video_id = create(here, model, request)
    done = followed(here, video_id)[-1]
    assert (done["status"], done["model"], done["seed"]) == ("completed", model.case.name, request.seed)
    assert done["stage_durations"].keys() == {"encode", "denoise", "decode", "finish"}
    clip = tmp_path / "http.mp4"
    clip.write_bytes(content(here, video_id))
    check_clip(clip, request)
    check_stills(here, video_id, request)
    assert make_on_the_command_line(model, request, tmp_path).read_bytes() == clip.read_bytes()
    if model.family.card.makes_sound:
        check_sound(clip, request)
        assert (tmp_path / "cli.wav").read_bytes() == content(here, video_id, variant="audio")
    assert here.client.delete(f"/v1/videos/{video_id}").status_code == 200
    assert not clips_of(here)


@pytest.mark.parametrize("model", ONE_OF_EACH, indirect=True)
def test_a_preview_can_be_watched_and_a_cancel_stops_the_work(model: Tiny, here: Here) -> None:
    card = model.family.card
    request = model.request(num_inference_steps=min(50, card.rules.max_steps))
    here.holds.at(1)
    video_id = create(here, model, request, n=10)
    for name, data in events(here, video_id):
        here.holds.at(9 * request.num_steps)  # it is watched by now, and goes on, but not to its end
        if name == "preview":
            with Image.open(BytesIO(base64.b64decode(data["image"].partition(",")[2]))) as preview:
                assert preview.format == "WEBP"
                assert preview.width * request.height == preview.height * request.width
            here.client.post(f"/v1/videos/{video_id}/cancel")
        last = name, data
    assert last[0] == "done"
    assert last[1]["error"]["code"] == "cancelled"
    assert not clips_of(here)
    here.holds.release()
    here.client.delete(f"/v1/videos/{video_id}")


def create(here: Here, model: Tiny, request: GenerationRequest, **more: Any) -> str:
    """Create a video as a form, with the case's pictures, and return its id."""
    asked = {name: value for name, value in asdict(request).items() if name in ASKED and value is not None}
    form = {**asked, "model": model.case.name, "resize_mode": "crop", **more}
    files = {name: png(frame) for name, frame in pictures(model, "input_reference", "last_frame_reference")}
    answer = here.client.post("/v1/videos", data=form, files=files)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def make_on_the_command_line(model: Tiny, request: GenerationRequest, folder: Path) -> Path:
    """Make the same clip with `vitascope generate` and return its file."""
    values = asdict(request)
    flags = [f"--{name.replace('_', '-')}={values[name]}" for name in ASKED if values[name] is not None]
    for name, frame in pictures(model, "image-path", "last-image-path"):
        (folder / f"{name}.png").write_bytes(png(frame))
        flags.append(f"--{name}={folder / name}.png")
    flags += ["--resize-mode=crop", "--num-threads=1", f"--output-file-path={folder / 'cli.mp4'}"]
    flags += ["--save-audio"] if model.family.card.makes_sound else []
    assert run(["generate", f"--model-path={model.folder}", *flags]) == 0
    return folder / "cli.mp4"


def pictures(model: Tiny, first: str, last: str) -> list[tuple[str, np.ndarray]]:
    media = model.case.media
    given = ((first, media.first_frame), (last, media.last_frame))
    return [(name, frame) for name, frame in given if frame is not None]


def png(frame: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return buffer.getvalue()


def events(here: Here, video_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the events of a job, previews too."""
    with here.client.stream("GET", f"/v1/videos/{video_id}/events?preview=true") as answer:
        name = ""
        for line in answer.iter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)


def followed(here: Here, video_id: str) -> list[dict[str, Any]]:
    """Return all that is told of a job until its end, its progress never falling."""
    told = [data for name, data in events(here, video_id) if name != "preview"]
    progress = [data["progress"] for data in told]
    assert progress == sorted(progress)
    return told


def content(here: Here, video_id: str, **query: str) -> bytes:
    answer = here.client.get(f"/v1/videos/{video_id}/content", params=query)
    assert answer.status_code == 200, answer.text
    return answer.content


def clips_of(here: Here) -> list[str]:
    """Return the clips, stills and sounds that the server keeps; pictures go with the next sweep."""
    keys = here.server.services.artifacts.keys()
    return [key for key in keys if not key.endswith(".png")]


def check_clip(clip: Path, request: GenerationRequest) -> None:
    """Decode a clip with another's library: right size, length and speed, and it says how it was made."""
    video = read_video(clip)
    assert video.frames.shape == (request.num_frames, request.height, request.width, 3)
    assert video.frames.std() > 0
    assert Fraction(video.fps).limit_denominator(1001) == frame_rate(request.fps)
    told = read_provenance(clip)
    assert (told.request.prompt, told.request.seed) == (request.prompt, request.seed)
    with av.open(str(clip)) as container:
        assert [s.codec_context.name for s in container.streams.video] == ["h264"]


def check_stills(here: Here, video_id: str, request: GenerationRequest) -> None:
    for variant, kind in (("thumbnail", "WEBP"), ("spritesheet", "JPEG")):
        with Image.open(BytesIO(content(here, video_id, variant=variant))) as still:
            assert still.format == kind
            if variant == "thumbnail":
                assert still.size == (request.width, request.height)


def check_sound(clip: Path, request: GenerationRequest) -> None:
    """A sound track as long as the clip, to within one of AAC's packets and the model's own rounding."""
    with av.open(str(clip)) as container:
        (track,) = container.streams.audio
        assert track.codec_context.name == "aac"
        seconds = sum(frame.samples for frame in container.decode(track)) / track.rate
        assert seconds == pytest.approx(request.duration_s, abs=0.06 + 2 * 1024 / track.rate)

"""`--perf-dump-path`: where the time of one clip went, as SGLang's tools read it."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import vitascope
from vitascope.cli.output import whole_file
from vitascope.errors import InvalidRequest

if TYPE_CHECKING:
    from vitascope.engine.events import Advanced
    from vitascope.library import Clip


@dataclass(frozen=True, slots=True, kw_only=True)
class Perf:
    """The file with the times."""

    perf_dump_path: Annotated[
        Path | None,
        typer.Option(
            help="File for the clip's times as JSON: stages, every step, peak memory.",
            rich_help_panel="Output",
            show_default=False,
        ),
    ] = None

    def check(self, num_clips: int, *, overwrite: bool) -> None:
        """Refuse what can be refused before a clip is made. Raises `InvalidRequest`."""
        path = self.perf_dump_path
        if path is None:
            return
        if num_clips > 1:
            raise InvalidRequest(
                f"--perf-dump-path is for one clip, and this makes {num_clips}.", param="perf_dump_path"
            )
        if path.exists() and not overwrite:
            raise InvalidRequest(
                f"{path} exists; choose another name or use --overwrite.", param="perf_dump_path"
            )
        if not path.parent.is_dir():
            raise InvalidRequest(f"There is no folder {str(path.parent)!r}.", param="perf_dump_path")

    def write(self, clip: Clip, watch: StepWatch, *, load_s: float, total_s: float) -> None:
        """Write the file, if one is wanted."""
        if self.perf_dump_path is not None:
            with whole_file(self.perf_dump_path) as part:
                part.write_text(json.dumps(_report(clip, watch, load_s, total_s), indent=2), encoding="utf-8")


class StepWatch:
    """Takes the time of every denoising step, as seen from outside the engine."""

    def __init__(self) -> None:
        self.steps_ms: list[float] = []
        self._step = 0
        self._last = time.perf_counter()

    def update(self, event: Advanced) -> None:
        """Note a quantum of work."""
        now = time.perf_counter()
        if event.step > self._step:
            self.steps_ms.append((now - self._last) * 1000)
        self._step, self._last = event.step, now


def _report(clip: Clip, watch: StepWatch, load_s: float, total_s: float) -> dict[str, object]:
    stages = {"load": load_s, **clip.stats.stage_s}
    peak = clip.stats.peak_memory_bytes / 2**20
    return {
        "timestamp": datetime.now(UTC).isoformat(),
        "request_id": uuid.uuid4().hex,
        "commit_hash": None,
        "tag": f"vitascope {vitascope.__version__}",
        "total_duration_ms": total_s * 1000,
        "steps": [{"name": name, "duration_ms": seconds * 1000} for name, seconds in stages.items()],
        "denoise_steps_ms": watch.steps_ms,
        "memory_checkpoints": {"runtime_peak": {"peak_allocated_mb": peak}},
        "meta": {"prompt": clip.request.prompt, "model": clip.request.model},
    }

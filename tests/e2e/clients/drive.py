"""What the drivers of Python clients share: what they ask for, and how they tell what came of each step."""

from __future__ import annotations

import io
import json
import traceback
from typing import Any

from PIL import Image

PROMPT = "a red circle moving right on a blue background"
QUICK = {"num_inference_steps": 2, "num_frames": 5, "seed": 1}
KEYS = {
    "id", "object", "model", "status", "progress", "created_at", "completed_at", "expires_at", "prompt",
    "size", "seconds", "remixed_from_video_id", "error",
}  # fmt: skip


class Steps:
    """The steps of one driver, in the order in which they are written down."""

    def __init__(self) -> None:
        self._steps: dict[str, Any] = {}

    def step(self, name: str, *, where: bool = True) -> Any:
        """Add a step, where the client has a call for it; its name is one of the matrix."""

        def add(function: Any) -> Any:
            if where:
                self._steps[name] = function
            return function

        return add

    def run(self, *args: Any) -> None:
        """Take every step and print what came of it: null, or the traceback."""
        for name, function in self._steps.items():
            try:
                function(*args)
                broke = None
            except Exception:  # noqa: BLE001  (whatever broke is told, and the next step taken)
                broke = traceback.format_exc()
            print(json.dumps({"step": name, "broke": broke}), flush=True)


def picture(defaults: dict[str, Any]) -> bytes:
    """A first frame in the model's native size, as PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", (defaults["width"], defaults["height"]), (30, 60, 200)).save(buffer, "PNG")
    return buffer.getvalue()


def kind_of(data: bytes) -> str | None:
    """Decode a picture and return its format."""
    with Image.open(io.BytesIO(data)) as still:
        still.load()
        return still.format


def is_mp4(data: bytes) -> bool:
    """Tell an MP4 by its first box."""
    return data[4:8] == b"ftyp"

"""From nothing to a clip: serve the bundled model, ask it through the OpenAI SDK, stop it cleanly."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import httpx
from openai import OpenAI
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

PROMPT = " ".join(sys.argv[1:]) or "a red circle moving right on a blue background"
OUTPUT = Path("demo.mp4")
START_LIMIT_S = 600  # a guard; a machine that does much else may take its time

# The SDK says at each call that OpenAI's own video service ends; this server's does not.
warnings.filterwarnings("ignore", "The Sora API", DeprecationWarning)


def wait_until_ready(server: subprocess.Popen[str], url: str) -> None:
    """Poll the readiness route until the model is loaded, or fail with what the server said."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            sys.exit("The server stopped before it was ready.")
        try:
            if httpx.get(f"{url}/health").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.2)
    sys.exit(f"The server was not ready after {START_LIMIT_S} s.")


def generate(url: str) -> None:
    """Create a video, follow its progress, download it."""
    client = OpenAI(base_url=f"{url}/v1", api_key="not-needed-on-loopback")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns) as bar:
        task = bar.add_task(PROMPT, total=100)
        video = client.videos.create(prompt=PROMPT)
        while video.status in {"queued", "in_progress"}:
            bar.update(task, completed=video.progress)
            time.sleep(0.1)
            video = client.videos.retrieve(video.id)
        bar.update(task, completed=video.progress)
    if video.status != "completed":
        sys.exit(f"The job ended as {video.status}: {video.error and video.error.message}")
    client.videos.download_content(video.id).write_to_file(OUTPUT)
    print(f"wrote {OUTPUT} ({video.size}, {video.seconds} s, seed {video.model_extra['seed']})")


def main() -> None:
    """Run the demo."""
    with tempfile.TemporaryDirectory() as data_dir:
        command = [
            sys.executable,
            "-m",
            "vitascope",
            "serve",
            "--port",
            "0",
            "--data-dir",
            data_dir,
            "--log-level",
            "warning",
        ]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            url = next(
                (word for line in server.stdout or () for word in line.split() if word.startswith("http://")),
                None,
            )
            if url is None:
                sys.exit("The server stopped before it was ready.")
            wait_until_ready(server, url)
            generate(url)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=START_LIMIT_S)


if __name__ == "__main__":
    main()

"""A worker process: reads its settings, loads its model, announces it, and works until told to stop.

Started by the fleet, with the wire on an inherited socket and the settings as JSON on stdin.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence

import torch

from vitascope import wire
from vitascope.config import Settings
from vitascope.config.processes import available_cores
from vitascope.engine.engine import Engine
from vitascope.errors import VitascopeError
from vitascope.media.artifacts import FolderArtifacts
from vitascope.observability.logs import set_up_logging
from vitascope.worker.channel import Channel
from vitascope.worker.loading import load_model
from vitascope.worker.loop import Loop


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one worker; return its exit status."""
    parser = argparse.ArgumentParser(prog="vitascope.worker", description="Started by the server.")
    parser.add_argument("--fd", type=int, required=True, help="inherited socket to the server")
    fd = parser.parse_args(arguments).fd
    settings = Settings.model_validate_json(sys.stdin.buffer.read())
    set_up_logging(settings.log_level, as_json=settings.log_json)
    channel = Channel(socket.socket(fileno=fd))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides
    signal.signal(signal.SIGTERM, lambda *_: channel.request_shutdown())
    torch.set_num_threads(settings.num_threads or available_cores())
    return work(settings, channel)


def work(settings: Settings, channel: Channel) -> int:
    """Load the model and serve it over the channel; return the exit status."""
    try:
        family = load_model(settings, channel)
    except VitascopeError as error:
        channel.send(wire.LoadFailed(code=error.code, message=error.message))
        return 1
    if family is None:
        return 0
    channel.send(wire.Ready(card=family.card, pid=os.getpid()))
    artifacts = FolderArtifacts(settings.artifacts_dir)
    return Loop(
        Engine(family), channel, artifacts, checkpoint_interval_s=settings.checkpoint_interval_s
    ).run()


if __name__ == "__main__":
    ended = main()
    logging.shutdown()
    os._exit(ended)  # all is saved by now; taking every module apart first would take seconds

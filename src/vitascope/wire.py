"""Every message between server and worker, and its codec (msgpack; never pickle).

Commands go down, events come up. No tensor and no big payload passes: files go through the artifact store,
and a message carries their keys. Who sends a message is not known here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import msgspec

from vitascope.card import ModelCard
from vitascope.request import GenerationRequest

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
_HEADER = struct.Struct(">I")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file of a job: its `variant` (video, thumbnail, ...), key, type, size and hash, which output's."""

    variant: str
    key: str
    media_type: str
    size_bytes: int
    sha256: str
    output: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What one job cost: device seconds by stage, and the peak of memory in bytes."""

    stage_s: dict[str, float]
    peak_memory_bytes: int
    num_inference_steps: int


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all messages; the tag is the class name."""


# ---- commands: server to worker


class Generate(Message, frozen=True, kw_only=True):
    """Make the clips of a job from `output` on; those before are stored. `token` fences this claim.

    `resume_key` names a checkpoint of that output. Steps, `resume_step` too, are counted through all outputs.
    """

    job_id: str
    token: int
    request: GenerationRequest
    output: int = 0
    resume_key: str | None = None
    resume_step: int = 0


class Cancel(Message, frozen=True, kw_only=True):
    """Stop a job at its next step boundary; answered with `Cancelled` or the event that overtook it."""

    job_id: str
    token: int


class WatchPreview(Message, frozen=True, kw_only=True):
    """Send `Preview` events for a job from now on (`enabled`), or stop sending them."""

    job_id: str
    enabled: bool


class Shutdown(Message, frozen=True, kw_only=True):
    """Save a checkpoint of what is running, report it with `Parked`, and exit."""


class Measure(Message, frozen=True, kw_only=True):
    """Measure again how much memory is free; for a worker that waits to be told `Proceed`."""


class Proceed(Message, frozen=True, kw_only=True):
    """Load the weights: there is room for them."""


# ---- events: worker to server


class Loading(Message, frozen=True, kw_only=True):
    """How far the loading is: `stage` is download or load, `progress` its share done, from 0 to 1."""

    stage: str
    progress: float


class Measured(Message, frozen=True, kw_only=True):
    """What the model will take of a device's memory, and what is free; the worker waits for `Proceed`."""

    device: str
    weights_bytes: int
    working_bytes: int
    free_bytes: int


class Ready(Message, frozen=True, kw_only=True):
    """The model is loaded; `pid` is the worker's process."""

    card: ModelCard
    pid: int


class LoadFailed(Message, frozen=True, kw_only=True):
    """The model cannot be loaded; the worker exits after this."""

    code: str
    message: str


class Started(Message, frozen=True, kw_only=True):
    """The worker took the job onto the device; `step` is where it goes on from (0 for a fresh one)."""

    job_id: str
    token: int
    step: int


class Warned(Message, frozen=True, kw_only=True):
    """What the job's caller is to be told of a clip that is made all the same; safe to show."""

    job_id: str
    token: int
    warnings: tuple[str, ...]


class Progress(Message, frozen=True, kw_only=True):
    """A step was done. `stage` is encode, denoise, decode or finish; `eta_s` counts device seconds left."""

    job_id: str
    token: int
    stage: str
    step: int
    num_steps: int
    eta_s: float | None = None


class Preview(Message, frozen=True, kw_only=True):
    """A small picture (WebP bytes, at most some kB) of the current estimate."""

    job_id: str
    step: int
    image: bytes


class Checkpointed(Message, frozen=True, kw_only=True):
    """The whole state at `step` lies under `key` in the artifact store."""

    job_id: str
    token: int
    step: int
    key: str


class OutputStored(Message, frozen=True, kw_only=True):
    """The files of the next output, but not the last one, are synced and renamed."""

    job_id: str
    token: int
    files: tuple[StoredFile, ...]


class Finished(Message, frozen=True, kw_only=True):
    """The files of the last output are synced and renamed; the job is done."""

    job_id: str
    token: int
    files: tuple[StoredFile, ...]
    stats: Stats


class Failed(Message, frozen=True, kw_only=True):
    """The generation ended with an error; the worker lives on."""

    job_id: str
    token: int
    code: str
    message: str
    retryable: bool = False


class Cancelled(Message, frozen=True, kw_only=True):
    """The device is free of this job."""

    job_id: str
    token: int


class Parked(Message, frozen=True, kw_only=True):
    """The job left the device at a step boundary (shutdown, pre-emption); it can go on from `key`."""

    job_id: str
    token: int
    step: int
    key: str | None


Command = Generate | Cancel | WatchPreview | Shutdown | Measure | Proceed
Event = (
    Loading
    | Measured
    | Ready
    | LoadFailed
    | Started
    | Warned
    | Progress
    | Preview
    | Checkpointed
    | OutputStored
    | Finished
    | Failed
    | Cancelled
    | Parked
)

_encoder = msgspec.msgpack.Encoder()
_command_decoder = msgspec.msgpack.Decoder(Command)
_event_decoder = msgspec.msgpack.Decoder(Event)


class WireError(Exception):
    """The other side sent bytes that are no message; the connection is of no more use."""


def encode(message: Message) -> bytes:
    """Frame one message: four bytes of length, big-endian, then msgpack."""
    body = _encoder.encode(message)
    if len(body) > MAX_MESSAGE_BYTES:
        raise WireError(
            f"{type(message).__name__} is {len(body)} bytes; at most {MAX_MESSAGE_BYTES} pass the wire"
        )
    return _HEADER.pack(len(body)) + body


def decode_command(body: bytes) -> Command:
    """Decode one command's body (without its header)."""
    try:
        command: Command = _command_decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise WireError("not a command") from error
    return command


def decode_event(body: bytes) -> Event:
    """Decode one event's body (without its header)."""
    try:
        event: Event = _event_decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise WireError("not an event") from error
    return event


class ReceiveBuffer:
    """Cuts what is received into message bodies, whatever the chunks it comes in."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Add received bytes; return the bodies that are complete now."""
        self._buffer += data
        bodies = []
        while len(self._buffer) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer)
            if length > MAX_MESSAGE_BYTES:
                raise WireError(
                    f"a message of {length} bytes is announced; at most {MAX_MESSAGE_BYTES} pass the wire"
                )
            if len(self._buffer) < _HEADER.size + length:
                break
            bodies.append(bytes(self._buffer[_HEADER.size : _HEADER.size + length]))
            del self._buffer[: _HEADER.size + length]
        return bodies

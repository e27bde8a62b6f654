"""The one error tree.

Every error a user can meet has a stable `code`, an HTTP `status` hint and says whether trying again can
help. Who catches an error is not known here.
"""

from __future__ import annotations

import difflib


class VitascopeError(Exception):
    """Base of every error this package raises on purpose; `str(error)` is safe to show to a client."""

    code = "internal_error"
    status = 500
    retryable = False
    retry_after_s: int | None = None

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class InvalidRequest(VitascopeError):
    """The caller asked for something that cannot be done; the message says what would do."""

    code = "invalid_value"
    status = 400


class UnknownField(InvalidRequest):
    """A field, flag or key that nobody knows."""

    code = "unknown_parameter"


class InvalidType(InvalidRequest):
    """A value of the wrong type for its field."""

    code = "invalid_type"


class UnknownModel(InvalidRequest):
    """A request for a clip names a model that is not served; in a path that is `ModelNotFound`."""

    code = "model_not_found"


class ModelExists(InvalidRequest):
    """A launch under a name that a served or loading model or an alias has."""

    code = "model_exists"


class LaunchFailed(InvalidRequest):
    """A launch that was asked for cannot be done: no such model, or one that cannot be loaded."""

    code = "launch_failed"


class Malformed(InvalidRequest):
    """A body that breaks its dialect's own rules, whatever the model."""

    code = "malformed"
    status = 422


class InvalidMedia(InvalidRequest):
    """A picture or clip that cannot be used."""

    code = "invalid_media"


class IdempotencyKeyReused(InvalidRequest):
    """A key that stands for an earlier, different request."""

    code = "idempotency_key_reused"


class NotFound(VitascopeError):
    """The named thing does not exist, or not any more."""

    code = "not_found"
    status = 404


class VideoNotFound(NotFound):
    """No job has this id, or it was deleted."""

    code = "video_not_found"


class ModelNotFound(NotFound):
    """No model has the name that a path, or a call of Xinference's, is about."""

    code = "model_not_found"


class NotReady(NotFound):
    """The job exists but has no file yet, or never will."""

    code = "not_ready"


class Expired(NotFound):
    """The file was removed by retention; the job's row is kept."""

    code = "video_expired"


class Unauthorized(VitascopeError):
    """No key, or a wrong one."""

    code = "invalid_api_key"
    status = 401


class Forbidden(VitascopeError):
    """A valid key that may not do this, or a host that is not served."""

    code = "forbidden"
    status = 403


class LaunchForbidden(Forbidden):
    """The operator does not let clients launch this model, or launch and terminate at all."""

    code = "launch_forbidden"


class RequestTooLarge(VitascopeError):
    """A body, part or picture over the operator's limit."""

    code = "request_too_large"
    status = 413


class UnsupportedMediaType(VitascopeError):
    """A body in a format that is not read here; the message says which ones are."""

    code = "unsupported_media_type"
    status = 415


class QueueFull(VitascopeError):
    """As many jobs wait as the operator allows."""

    code = "rate_limit_exceeded"
    status = 429
    retryable = True
    retry_after_s = 15


class Unavailable(VitascopeError):
    """No worker can take the work now."""

    code = "unavailable"
    status = 503
    retryable = True
    retry_after_s = 5


class StoreUnavailable(Unavailable):
    """The database refuses, for reasons of its own; `reason` is for the operator and not for clients."""

    code = "store_unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__("The server cannot read or write its jobs now; try again later.")
        self.reason = reason


class StorageFailed(VitascopeError):
    """No file can be kept: the disk is full, read-only or gone. Trying again at once does not help."""

    code = "storage_failed"
    status = 503


class ModelLoading(Unavailable):
    """The named model is being loaded; it takes requests when that is done."""

    code = "model_loading"
    retry_after_s = 10


class DoesNotFit(VitascopeError):
    """A model that does not fit into memory beside the others; the message says how much it needs."""

    code = "does_not_fit"
    status = 503


class LaunchCancelled(VitascopeError):
    """Somebody cancelled or terminated the launch that a caller waited for."""

    code = "launch_cancelled"
    status = 499


class ModelNotAvailable(VitascopeError):
    """The model of a waiting or running job was terminated, or could not be loaded."""

    code = "model_not_available"
    status = 503


class ConfigurationError(VitascopeError):
    """The operator's settings contradict themselves or name something unknown."""

    code = "configuration_error"


class CheckpointError(VitascopeError):
    """A model folder that cannot be used; the message names the file and, where known, the tensor."""

    code = "checkpoint_error"


class IllegalTransition(VitascopeError):
    """A move that the job table does not allow; nothing was changed."""

    code = "illegal_transition"


class StaleClaim(VitascopeError):
    """A worker reported on a job that was meanwhile given to another (its fencing token is old)."""

    code = "stale_claim"


class OutOfMemory(VitascopeError):
    """The device ran out of memory; the worker lives on, the job failed."""

    code = "out_of_memory"


class DeviceLost(VitascopeError):
    """The device broke; nothing more can be done on it in this process, while a new one may be able to."""

    code = "device_lost"
    retryable = True


class WorkerLost(VitascopeError):
    """The worker process died and the job's attempts are used up."""

    code = "worker_lost"
    retryable = True


class WorkerHung(WorkerLost):
    """The worker made no headway, was killed for it, and the job's attempts are used up."""

    code = "worker_hung"


class GenerationFailed(VitascopeError):
    """The engine could not finish a generation for a reason that is not the caller's."""

    code = "generation_failed"


class Cancelled(VitascopeError):
    """The job that a caller waited for was cancelled or deleted by somebody."""

    code = "cancelled"
    status = 400


class Aborted(Cancelled):
    """The same, by its request id, in a dialect whose clients expect it so."""

    status = 409


def of_code(code: str, message: str) -> VitascopeError:
    """Return the error of the tree with that code, as it is written down of a failed job.

    A code of no error here (another version wrote it) gives the base with that code.
    """
    kinds = [VitascopeError]
    for kind in kinds:  # grows while it is walked: parents before children
        kinds.extend(kind.__subclasses__())
        if kind.code == code:
            return kind(message)
    unknown = VitascopeError(message)
    unknown.code = code
    return unknown


def nearest(name: str, known: list[str]) -> str:
    """Say which known name was probably meant, as the end of a sentence."""
    match = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {match[0]!r}?" if match else f"; known are {', '.join(sorted(known))}."

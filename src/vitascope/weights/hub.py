"""Models from the hub, kept in its own cache; every reason why one cannot be had is one line."""

from __future__ import annotations

import glob
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from huggingface_hub import RepoFile, get_cached_repo_tree, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    IncompleteSnapshotError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.errors import HTTPError as TransportError  # type: ignore[attr-defined]  # its client's base

from vitascope.errors import CheckpointError
from vitascope.weights.checkpoint import INDEX
from vitascope.weights.download import Bar, Ledger, Moved, download
from vitascope.weights.hub_files import components, wanted

OnProgress = Callable[[int, int], None]  # bytes that are here, bytes in all

_AT_A_TIME = 4
_LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repository:
    """One model on the hub, or its copy in the cache."""

    id: str
    revision: str | None
    cache_dir: Path | None
    endpoint: str | None
    offline: bool

    def snapshot(self, names: Sequence[str], moved: Moved = lambda *_: None) -> Path:
        """Return the cached folder, with these files in it."""
        bar: Any = partial(Bar, moved)
        return Path(
            snapshot_download(
                self.id,
                revision=self.revision,
                cache_dir=self.cache_dir,
                endpoint=self.endpoint,
                local_files_only=self.offline,
                allow_patterns=[glob.escape(name) for name in names],
                max_workers=_AT_A_TIME,
                tqdm_class=bar,
            )
        )

    def listing(self, commit: str) -> list[RepoFile] | None:
        """Return the repository's files; None where the cache was filled without a listing."""
        try:
            return get_cached_repo_tree(self.id, revision=commit, cache_dir=self.cache_dir)
        except CachedRepoTreeNotFoundError:
            return None

    def url(self, name: str, commit: str) -> str:
        """Return where a file lies."""
        return hf_hub_url(self.id, name, revision=commit, endpoint=self.endpoint)


def fetch(
    model_id: str,
    *,
    revision: str | None = None,
    cache_dir: Path | None = None,
    offline: bool = False,
    endpoint: str | None = None,
    on_progress: OnProgress | None = None,
    replaced: Collection[str] = (),
) -> Path:
    """Return the folder of a hub model in the cache; what is missing there is downloaded and checked first.

    `revision` pins a branch, tag or commit; `cache_dir` and `endpoint` are huggingface_hub's own unless given
    (HF_HOME, HF_ENDPOINT). Only safetensors, configurations and tokenizers are downloaded, and no weights of
    components that are `replaced`. `on_progress` is called from several threads, one at a time.

    Raises:
        CheckpointError: it cannot be had, holds weights in other formats only, or is not what the hub says.

    """
    repository = _Repository(
        id=model_id, revision=revision, cache_dir=cache_dir, endpoint=endpoint, offline=offline
    )
    with _explained(repository):
        root = repository.snapshot([INDEX])
        files = repository.listing(root.name)
        if files is None:
            return root
        files = wanted(files, components(root, model_id), model_id, replaced=replaced)
        root = _download(repository, root, files, on_progress)
    _check(root, files)
    return root


def _download(
    repository: _Repository, root: Path, files: Sequence[RepoFile], on_progress: OnProgress | None
) -> Path:
    """Bring the missing files into the cache, several at a time, and link them into the folder."""
    tally = _Tally(sum(f.size for f in files), on_progress)
    missing = [f for f in files if not (root / f.path).exists()]
    tally.add(tally.total - sum(f.size for f in missing))

    def bring(file: RepoFile) -> None:
        download(repository.url(file.path, root.name), root.parent.parent, file.path, tally.add)

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        running = [pool.submit(bring, file) for file in missing]
        try:
            for future in running:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)
    return repository.snapshot([f.path for f in files], tally.reach_from(tally.done))


def _check(root: Path, files: Sequence[RepoFile]) -> None:
    """Compare every file that was not compared before with its hash."""
    ledger = Ledger(root.parent.parent)
    try:
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            list(pool.map(lambda f: ledger.check(root / f.path, f.path), files))
    finally:
        ledger.save()


class _Tally:
    """Bytes that are here, of all; told to the operator under a lock."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self.total, self.done = total, 0
        self._on_progress = on_progress
        self._lock = Lock()

    def add(self, num_bytes: int, _so_far: int = 0) -> None:
        """Count bytes that came."""
        with self._lock:
            self._tell(self.done + num_bytes)

    def reach_from(self, base: int) -> Moved:
        """Count what huggingface_hub's own bars say, which show the same bytes twice: the furthest holds."""

        def reach(_num_bytes: int, so_far: int) -> None:
            with self._lock:
                self._tell(max(self.done, base + so_far))

        return reach

    def _tell(self, done: int) -> None:
        if done != self.done and self._on_progress is not None:
            self._on_progress(min(done, self.total), self.total)
        self.done = done


@contextmanager
def _explained(repository: _Repository) -> Iterator[None]:
    """Turn every way in which the hub or the network fails into one line."""
    model_id = repository.id
    try:
        yield
    except GatedRepoError:
        message = f"{model_id} is gated: accept its terms on its page, then {_LOG_IN}."
    except RepositoryNotFoundError:
        message = f"There is no folder or hub model {model_id!r}; if it is private, {_LOG_IN}."
    except RevisionNotFoundError:
        message = f"{model_id} has no revision {repository.revision!r}."
    except HFValidationError:
        message = f"{model_id!r} is no hub id; it should be owner/name."
    except LocalEntryNotFoundError as error:
        message = _unreachable(repository, error)
    except HfHubHTTPError as error:
        message = _refused(model_id, error)
    except (TransportError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        message = f"The download of {model_id} broke off ({reason}); what came is kept, so start it again."
    else:
        return
    raise CheckpointError(message)


def _unreachable(repository: _Repository, error: LocalEntryNotFoundError) -> str:
    here = "is only partly" if isinstance(error, IncompleteSnapshotError) else "is neither a folder nor"
    cause = error.__cause__
    if repository.offline or isinstance(cause, OfflineModeIsEnabled):
        return (
            f"{repository.id} {here} in the cache, and offline mode is on; download it once with the network."
        )
    if isinstance(cause, HfHubHTTPError):
        return _refused(repository.id, cause)
    return f"{repository.id} {here} in the cache, and the hub cannot be reached; check the network."


def _refused(model_id: str, error: HfHubHTTPError) -> str:
    return f"The hub answered {error.response.status_code} for {model_id}; try again later, or give a folder."

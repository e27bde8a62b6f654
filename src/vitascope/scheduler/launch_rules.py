"""Who may launch what: from the words of a launch to the settings of its worker, within the operator's rule.

A path chosen by a client reaches the file system only where the operator's own user is the client: see
`Settings.launch_rule`. Everywhere else clients choose among names that the operator gave.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from vitascope.config import Settings, changed
from vitascope.config.named_paths import MODEL_NAME, parse_named
from vitascope.errors import ConfigurationError, InvalidRequest, LaunchForbidden
from vitascope.launch import LaunchSpec

INDEX = "model_index.json"  # what makes a folder a model
MAX_CHARS = 4096
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?", re.ASCII)


def last_part(path: str) -> str:
    """Return the last part of a folder's path or a hub id."""
    return Path(path).name or Path(path).resolve().name


def configured(settings: Settings) -> Iterator[tuple[LaunchSpec, Settings]]:
    """Yield the models that the settings themselves name, the default one first."""
    name = settings.model_name or last_part(settings.model_path)
    yield LaunchSpec(model=settings.model_path, uid=name), settings
    for text in settings.also:
        name, path = parse_named("also", text)
        its = changed(_plain(settings, path), model_name=name)
        yield LaunchSpec(model=path, uid=name), its


def _plain(settings: Settings, path: str) -> Settings:
    """Return the settings for another model, without what was said of the first one's files."""
    return changed(settings, model_path=path, model_revision=None, lora=(), transformer_path=())


class LaunchRules:
    """The operator's rule, applied."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def check_allowed(self) -> None:
        """Refuse every launch and termination where clients may do neither. Raises `LaunchForbidden`."""
        if self._settings.launch_rule == "off":
            raise LaunchForbidden(
                "Clients of this server neither launch nor terminate models; its operator may let them, with "
                "--allow-launch registered or --allow-launch any."
            )

    def settle(self, spec: LaunchSpec) -> Settings:
        """Return the settings of a worker for a launch, `model_name` being its uid; looks at folders.

        Raises:
            LaunchForbidden: the operator does not allow it.
            InvalidRequest: an option or a uid that will not do.

        """
        self.check_allowed()
        _check_words(spec)
        known = dict(self._offers())
        self._check_choice(spec, known)
        base = known.get(spec.model) or _plain(self._settings, spec.model)
        uid = spec.uid or last_part(spec.model)
        if not MODEL_NAME.fullmatch(uid):
            raise InvalidRequest(
                f"The name {uid[:80]!r} will not do; give one of letters, digits, ., - and _ (model_uid).",
                param="model_uid",
            )
        said = {
            "model_revision": spec.revision,
            "device": spec.device,
            "dtype": spec.dtype,
            "lora": spec.lora,
            "transformer_path": spec.transformer_path,
        }
        try:
            return changed(base, model_name=uid, **{name: value for name, value in said.items() if value})
        except ConfigurationError as error:
            raise InvalidRequest(error.message) from None

    def registered(self) -> Iterator[tuple[str, str]]:
        """Yield the names that the operator gave, with the folder or hub id of each; looks at folders."""
        for name, settings in self._offers():
            yield name, settings.model_path

    def _offers(self) -> Iterator[tuple[str, Settings]]:
        """Yield the same names with the settings that a worker would have."""
        for text in self._settings.launchable:
            found = [parse_named("launchable", text)] if "=" in text else _models_in(Path(text).expanduser())
            for name, path in found:
                yield name, _plain(self._settings, path)
        for spec, settings in configured(self._settings):
            yield str(spec.uid), settings

    def _check_choice(self, spec: LaunchSpec, names: Collection[str]) -> None:
        if self._settings.launch_rule == "any":
            return
        if spec.model not in names:
            raise LaunchForbidden(
                f"Clients may not launch {spec.model[:80]!r} here; they may launch {', '.join(names)}."
            )
        if spec.lora or spec.transformer_path or spec.revision:
            raise LaunchForbidden(
                "Clients of this server choose no files and no revision for a model; its operator does."
            )


def _models_in(folder: Path) -> Iterator[tuple[str, str]]:
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        return  # not there now; nothing in it can be launched
    for path in inside:
        if MODEL_NAME.fullmatch(path.name) and (path / INDEX).is_file():
            yield path.name, str(path)


def _check_words(spec: LaunchSpec) -> None:
    if not spec.model.strip() or "\0" in spec.model or len(spec.model) > MAX_CHARS:
        raise InvalidRequest("model names no model: give a name, a folder or a hub id.", param="model_path")
    if spec.device is not None and not _DEVICE.fullmatch(spec.device):
        raise InvalidRequest(
            f"device is {spec.device[:80]!r}; use auto, cpu, cuda or cuda:N.", param="device"
        )

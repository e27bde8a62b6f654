"""Models from the hub, against a stand-in on the loopback that drops connections and lies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from stand_in_hub import COMMIT, StandIn
from tiny_models import tiny
from vitascope.config.model_source import ModelSource
from vitascope.engine.load import load_family
from vitascope.errors import CheckpointError
from vitascope.weights.find import find_model
from vitascope.weights.hub import fetch

ID = "someone/tiny-wan"
BIG = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the library reach the loopback, write small pieces, and wait for nothing between attempts."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 250)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    yield
    huggingface_hub.close_session()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as repositories have it, with files beside it that nobody should download."""
    to = tmp_path_factory.mktemp("hub") / "repository"
    shutil.copytree(tiny("wan21_t2v").folder, to)
    for name in ("README.md", "pipeline.py", "transformer/model.bin", "original/weights.safetensors"):
        (to / name).parent.mkdir(exist_ok=True)
        (to / name).write_bytes(b"not wanted")
    shutil.copy(to / BIG, to / BIG.replace(".safetensors", ".fp16.safetensors"))
    return to


@pytest.fixture
def hub(folder: Path) -> Iterator[StandIn]:
    with StandIn({ID: folder}) as standing:
        yield standing


@pytest.fixture
def get(hub: StandIn, tmp_path: Path) -> Callable[..., Path]:
    def get(model_id: str = ID, **options: Any) -> Path:
        return fetch(model_id, **{"cache_dir": tmp_path / "cache", "endpoint": hub.endpoint} | options)

    return get


def names(root: Path) -> set[str]:
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}


def test_only_a_models_files_are_downloaded_and_nothing_that_could_run(get: Callable[..., Path]) -> None:
    got = names(get())
    assert {Path(name).suffix for name in got} <= {".json", ".safetensors", ".txt", ".model"}
    assert {BIG, "transformer/config.json", "tokenizer/tokenizer_config.json"} <= got
    assert "original/weights.safetensors" not in got
    assert "transformer/diffusion_pytorch_model.fp16.safetensors" not in got


def test_an_id_and_a_pinned_commit_are_enough_to_load_a_model(
    hub: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitascope.weights.find.fetch", partial(fetch, endpoint=hub.endpoint))
    family = load_family(ModelSource(ID, revision=COMMIT, cache_dir=tmp_path), device="cpu")
    assert family.card.name == "tiny-wan"
    here = ModelSource(tiny("wan21_t2v").folder)
    assert family.card.identity == load_family(here, device="cpu").card.identity


def test_weights_that_a_file_replaces_are_not_downloaded(
    hub: StandIn, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitascope.weights.find.fetch", partial(fetch, endpoint=hub.endpoint))
    source = ModelSource(ID, cache_dir=tmp_path, replaced={"transformer": folder / BIG})
    family = load_family(source, device="cpu")
    assert not any(name.startswith("transformer/") and ".safetensors" in name for name in hub.downloads)
    assert "transformer/config.json" in hub.downloads
    assert load_family(replace(source, offline=True), device="cpu").card == family.card


def test_a_file_in_place_of_weights_that_is_not_there_is_known_before_a_download(
    hub: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitascope.weights.find.fetch", partial(fetch, endpoint=hub.endpoint))
    with pytest.raises(CheckpointError, match=r"no file .*missing\.gguf"):
        find_model(ModelSource(ID, cache_dir=tmp_path, replaced={"transformer": tmp_path / "missing.gguf"}))
    assert not hub.asked


def test_every_byte_is_told_once_and_in_order(get: Callable[..., Path]) -> None:
    told: list[tuple[int, int]] = []
    root = get(on_progress=lambda done, total: told.append((done, total)))
    size = sum((root / name).stat().st_size for name in names(root))
    assert {total for _, total in told} == {size}
    assert told[-1] == (size, size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_second_fetch_downloads_nothing(get: Callable[..., Path], hub: StandIn) -> None:
    first = get()
    before = hub.downloads.copy()
    told: list[tuple[int, int]] = []
    assert get(on_progress=lambda done, total: told.append((done, total))) == first
    assert hub.downloads == before
    assert len(told) == 1
    assert told[0][0] == told[0][1]


def test_a_pinned_commit_that_is_here_asks_the_hub_nothing(get: Callable[..., Path], hub: StandIn) -> None:
    get(revision=COMMIT)
    hub.asked.clear()
    assert get(revision=COMMIT).name == COMMIT
    assert not hub.asked


def test_offline_uses_what_is_here_and_says_so_where_nothing_is(
    get: Callable[..., Path], hub: StandIn
) -> None:
    with pytest.raises(
        CheckpointError, match=r"someone/tiny-wan is neither a folder nor in the cache, and offline"
    ):
        get(offline=True)
    root = get()
    hub.asked.clear()
    assert get(offline=True) == root
    assert not hub.asked


def test_offline_refuses_a_model_that_is_only_partly_here(get: Callable[..., Path]) -> None:
    (get() / BIG).unlink()
    with pytest.raises(CheckpointError, match="only partly in the cache"):
        get(offline=True)


def test_a_dropped_connection_is_resumed_where_it_broke_off(get: Callable[..., Path], hub: StandIn) -> None:
    size = (hub.models[ID] / BIG).stat().st_size
    hub.drops[BIG] = [1000, 500]
    told: list[int] = []
    root = get(on_progress=lambda done, _: told.append(done))
    assert (root / BIG).read_bytes() == (hub.models[ID] / BIG).read_bytes()
    assert hub.ranges == [(BIG, "bytes=1000-"), (BIG, "bytes=1500-")]
    assert told == sorted(told)
    assert told[-1] == sum((root / name).stat().st_size for name in names(root)) > size


def test_a_download_that_broke_off_for_good_goes_on_in_the_next_run(
    get: Callable[..., Path], hub: StandIn
) -> None:
    hub.drops[BIG] = [1000, *[0] * 50]
    with pytest.raises(CheckpointError, match=r"download of someone/tiny-wan broke off .* start it again"):
        get()
    hub.drops.clear()
    hub.ranges.clear()
    root = get()
    assert hub.ranges == [(BIG, "bytes=1000-")]
    assert (root / BIG).read_bytes() == (hub.models[ID] / BIG).read_bytes()


@pytest.mark.parametrize("name", [BIG, "transformer/config.json"])
def test_a_file_that_is_not_what_its_hash_says_is_refused_by_name(
    get: Callable[..., Path], hub: StandIn, name: str
) -> None:
    hub.tampered.add(name)
    with pytest.raises(CheckpointError, match=f"{name} is not what the hub says"):
        get()
    with pytest.raises(CheckpointError, match=f"{name} is not what the hub says"):
        get()  # it was not kept
    hub.tampered.clear()
    assert (get() / name).read_bytes() == (hub.models[ID] / name).read_bytes()


def test_a_file_that_changed_in_the_cache_is_found_too(get: Callable[..., Path]) -> None:
    blob = (get() / BIG).resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{BIG} is not what the hub says"):
        get()


def test_weights_without_a_hash_are_refused(get: Callable[..., Path], hub: StandIn) -> None:
    hub.no_hash.add(BIG)
    with pytest.raises(CheckpointError, match=f"no SHA-256 for {BIG}"):
        get()


def test_an_unknown_id_and_an_unknown_revision_are_named(get: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=r"no folder or hub model 'someone/else'; if it is private"):
        get("someone/else")
    with pytest.raises(CheckpointError, match=r"someone/tiny-wan has no revision 'v9'"):
        get(revision="v9")
    with pytest.raises(CheckpointError, match="should be owner/name"):
        get("not an id")


def test_a_gated_model_says_how_to_get_in(get: Callable[..., Path], hub: StandIn) -> None:
    hub.gated.add(ID)
    with pytest.raises(CheckpointError, match=r"is gated: accept its terms .* HF_TOKEN"):
        get()


def test_a_hub_that_fails_or_is_away_is_said_in_one_line(get: Callable[..., Path], hub: StandIn) -> None:
    hub.status = 500
    with pytest.raises(CheckpointError, match=r"The hub answered 500 for someone/tiny-wan") as failed:
        get()
    assert "\n" not in str(failed.value)
    with pytest.raises(CheckpointError, match="nor in the cache, and the hub cannot be reached"):
        get(endpoint="http://127.0.0.1:9")


def test_without_a_network_a_model_that_is_here_still_loads(get: Callable[..., Path]) -> None:
    root = get()
    assert get(endpoint="http://127.0.0.1:9") == root


def _without_safetensors(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    (to / "text_encoder" / "model.safetensors").rename(to / "text_encoder" / "pytorch_model.bin")
    return to


def test_a_part_with_bin_weights_only_is_refused_before_anything_big_is_downloaded(
    get: Callable[..., Path], hub: StandIn, folder: Path, tmp_path: Path
) -> None:
    hub.models["someone/old"] = _without_safetensors(folder, tmp_path / "old")
    with pytest.raises(CheckpointError, match=r"weights of text_encoder as \.bin only"):
        get("someone/old")
    assert set(hub.downloads) == {"model_index.json"}


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (None, "has no model_index.json"),
        ("[]", "model_index.json of someone/odd is not a JSON object"),
        ("{", "model_index.json of someone/odd is not a JSON object"),
    ],
)
def test_a_repository_of_another_layout_is_refused(
    get: Callable[..., Path], hub: StandIn, tmp_path: Path, index: str | None, message: str
) -> None:
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "weights.safetensors").write_bytes(b"")
    if index is not None:
        (odd / "model_index.json").write_text(index)
    hub.models["someone/odd"] = odd
    with pytest.raises(CheckpointError, match=message):
        get("someone/odd")


def test_a_part_that_would_lead_out_of_the_folder_is_not_followed(
    get: Callable[..., Path], hub: StandIn, folder: Path, tmp_path: Path
) -> None:
    evil = tmp_path / "evil"
    shutil.copytree(folder, evil)
    index = json.loads((evil / "model_index.json").read_text())
    (evil / "model_index.json").write_text(json.dumps(index | {"../..": ["diffusers", "X"]}))
    hub.models["someone/evil"] = evil
    root = get("someone/evil")
    assert (root / BIG).is_file()

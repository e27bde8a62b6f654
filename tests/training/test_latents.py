from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from training.latents import Latents, condition_kind, pool_of, scene_at

BUCKET, SHAPE = "64x64x17", (4, 1, 2, 2)


def write_shard(folder, numbers: Sequence[int]) -> None:
    given = [i for i in numbers if condition_kind(i)]
    latents = np.stack([np.full(SHAPE, i, np.float16) for i in numbers])
    conditions = np.stack([np.full(SHAPE, -i, np.float16) for i in given])
    path = folder / f"{BUCKET}.1.{numbers[0]:07d}.npz"
    np.savez(path, seed=1, indices=np.asarray(numbers), latents=latents, conditions=conditions)


@pytest.fixture
def store(tmp_path):
    return Latents(tmp_path, BUCKET, torch.zeros(4), torch.ones(4))


def test_shards_that_appear_later_are_added_and_keep_their_own_conditions(tmp_path, store):
    write_shard(tmp_path, range(16))
    assert store.refresh() == 16
    write_shard(tmp_path, range(17, 48, 2))
    assert store.refresh() == 32
    for (_, index), latent, condition in zip(store.keys, store.latents, store.conditions, strict=True):
        assert latent.eq(index).all()
        assert (condition is None) == (condition_kind(index) == 0)
        assert condition is None or condition.eq(-index).all()


def test_every_clip_is_in_the_pool_of_its_scene_and_in_no_other(tmp_path, store):
    write_shard(tmp_path, range(64))
    store.refresh()
    assert sorted(p for pool in store.pools.values() for p in pool) == list(range(64))
    for name, pool in store.pools.items():
        assert {pool_of(scene_at(*store.keys[p])) for p in pool} == {name}
    assert set(store.pools) == {"move", "rotate", "other", "pair"}


def test_conditions_are_shared_out_evenly_among_singles_and_pairs():
    kinds = Counter((condition_kind(i), len(scene_at(1, i).things)) for i in range(64))
    assert kinds == {(0, 1): 24, (1, 1): 12, (2, 1): 12, (0, 2): 8, (1, 2): 4, (2, 2): 4}

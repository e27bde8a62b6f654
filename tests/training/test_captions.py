import numpy as np
import pytest
from training.captions import NOTHING, SLOTS, default_background, describe, labels
from training.clips import pair, sample_scene, single
from training.text_encoder import CLASSES, ROLES, build_tokenizer, draw_batch


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_every_label_is_a_value_of_its_slot():
    rng = np.random.default_rng(0)
    for scene in [None, *(sample_scene(rng, 0.5) for _ in range(200))]:
        assert all(value in values for value, values in zip(labels(scene), SLOTS.values(), strict=True))


def test_the_empty_prompt_and_a_single_thing_leave_their_slots_empty():
    assert labels(None) == [NOTHING] * len(SLOTS)
    assert labels(single(np.random.default_rng(0)))[-4:] == [NOTHING] * 4
    assert NOTHING not in labels(pair(np.random.default_rng(0)))


def test_a_background_is_left_unsaid_only_where_it_is_the_default():
    rng = np.random.default_rng(1)
    for _ in range(300):
        scene = sample_scene(rng, 0.3)
        said = {"gray": ("gray", "grey"), "purple": ("purple", "violet")}.get(
            scene.background, (scene.background,)
        )
        caption = describe(rng, scene)
        unsaid = not any(word in caption for word in said)
        assert not unsaid or scene.background == default_background([t.colour for t in scene.things])


def test_captions_come_in_many_phrasings():
    scene = single(np.random.default_rng(5), "left")
    rng = np.random.default_rng(6)
    assert len({describe(rng, scene) for _ in range(200)}) > 150


def test_the_vocabulary_covers_fresh_captions(tokenizer):
    rng = np.random.default_rng(123)
    for _ in range(500):
        assert tokenizer.unk_token_id not in tokenizer(describe(rng, sample_scene(rng, 0.4))).input_ids


def test_every_text_begins_with_one_token_a_slot_and_ends_with_the_end(tokenizer):
    for text in ("", "a red circle moving left", "A RED zebra"):
        ids = tokenizer(text).input_ids
        assert ids[:ROLES] == list(range(3, 3 + ROLES))
        assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer("zebra").input_ids[ROLES] == tokenizer.unk_token_id


def test_a_batch_is_the_same_for_the_same_seed(tokenizer):
    one, two = (draw_batch(np.random.default_rng(4), tokenizer, 8) for _ in range(2))
    assert one[0].equal(two[0])
    assert one[1].equal(two[1])
    assert int(one[1].max()) < CLASSES

import numpy as np
from training.checker import compare, judge
from training.clips import MOTIONS, Scene, pair, render, sample_scene, single
from training.evaluate import through_mp4


def scenes(count: int) -> list[Scene]:
    rng = np.random.default_rng(11)
    named = [single(rng, motion) for motion in MOTIONS]
    return [*named, *(pair(rng) for _ in range(6)), *(sample_scene(rng) for _ in range(count))]


def test_a_seed_names_a_scene_and_its_pixels():
    first, second = (sample_scene(np.random.default_rng((3, 4))) for _ in range(2))
    assert first == second
    assert np.array_equal(render(first), render(second))


def test_a_window_is_a_part_of_the_whole_frame():
    scene = sample_scene(np.random.default_rng(0))
    assert np.array_equal(render(scene, window=(8, 16, 32, 24)), render(scene)[:, 8:40, 16:40])


def test_the_background_and_the_things_always_differ_in_colour():
    for scene in scenes(40):
        colours = [scene.background, *(t.colour for t in scene.things)]
        assert len(set(colours)) == len(colours)


def test_the_checker_is_always_right_about_true_clips():
    for scene in scenes(30):
        assert compare(judge(render(scene), scene.layout), scene)["all"], scene


def test_the_checker_is_right_through_mp4_and_at_other_sizes():
    for scene in scenes(3)[::2]:
        for size in ((17, 64, 64), (9, 64, 64), (33, 64, 64), (17, 96, 96)):
            assert compare(judge(through_mp4(render(scene, *size)), scene.layout), scene)["all"], (
                scene,
                size,
            )


def test_the_checker_sees_a_wrong_colour_a_wrong_way_and_a_wrong_shape():
    rng = np.random.default_rng(2)
    asked, shown = single(rng, "left", ("blue", "red")), single(rng, "right", ("green", "yellow"))
    marks = compare(judge(render(shown)), asked)
    assert not any(marks[part] for part in ("background", "colour", "motion", "all"))

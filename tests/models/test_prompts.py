from collections.abc import Callable
from typing import Any

from vitascope.models.prompts import Extent, PromptCache, unread
from vitascope.request import GenerationRequest


def test_a_repeated_prompt_is_encoded_once() -> None:
    made: list[str] = []
    cache: PromptCache[str] = PromptCache()
    for _ in range(3):
        assert cache.get("a cat", lambda: made.append("a cat") or "embeds") == "embeds"
    assert made == ["a cat"]


def test_the_prompt_that_was_not_asked_for_the_longest_goes_first() -> None:
    cache: PromptCache[int] = PromptCache(max_entries=2)
    cache.get("a", lambda: 1)
    cache.get("b", lambda: 2)
    cache.get("a", lambda: 10)
    cache.get("c", lambda: 3)
    assert len(cache) == 2
    assert cache.get("a", lambda: 10) == 1
    assert cache.get("b", lambda: 20) == 20


def request(**changes: Any) -> GenerationRequest:
    values = {"model": "m", "prompt": "five little words are here", "negative_prompt": "two words"}
    values |= {"height": 8, "width": 8, "num_frames": 5, "fps": 8.0, "num_inference_steps": 4}
    return GenerationRequest(**(values | {"guidance_scale": 1.0, "seed": 0} | changes))


def words(limit: int) -> Callable[[str], Extent]:
    return lambda text: Extent(len(text.split()), limit)


def test_what_is_not_read_is_told_for_both_prompts_the_negative_one_only_where_it_is_read() -> None:
    of_prompt = "The prompt has 5 tokens; the model reads the first 1, and the rest has no effect."
    of_negative = "The negative prompt has 2 tokens; the model reads the first 1, and the rest has no effect."
    assert unread(request(), words(1), guided=True) == (of_prompt, of_negative)
    assert unread(request(), words(1), guided=False) == (of_prompt,)
    assert unread(request(), words(4), guided=True) == (of_prompt.replace("first 1", "first 4"),)
    assert unread(request(), words(5), guided=True) == ()


def test_a_part_of_the_prompts_is_called_by_its_name() -> None:
    (warning,) = unread(request(), words(4), guided=True, part="quoted text of the ")
    assert warning.startswith("The quoted text of the prompt has 5 tokens")

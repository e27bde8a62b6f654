from vitascope.models.prompts import PromptCache


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

from __future__ import annotations

import pytest

from vitascope.errors import nearest


@pytest.mark.parametrize(
    ("name", "known", "advice"),
    [("heights", ["height", "width"], "; did you mean 'height'?"), ("zzz", ["b", "a"], "; known are a, b.")],
)
def test_the_nearest_name_is_suggested_or_all_are_listed(name, known, advice):
    assert nearest(name, known) == advice

import numpy as np
import pytest
from PIL import Image
from training.evaluate import SIZES
from training.report import AIMS, HEADS, LABELS, cell, markdown, merge, renew_card, sheet

CARD = "# Card\n<!-- figures -->\nold\n<!-- end of figures -->\nlimits\n"


@pytest.mark.parametrize(
    ("row", "figure", "value", "written"),
    [
        ("move", "shape", 90.0, "90 (90)"),
        ("move", "shape", 89.5, "**89.5** (90)"),
        ("two", "drift", 2.0, "2 (2)"),
        ("two", "drift", 2.04, "**2.04** (2)"),
        ("two", "shape", 20.0, "20"),
        ("two", "first PSNR", None, ""),
        ("round trip, two", "shape", 20.0, "20"),
    ],
)
def test_a_figure_stands_beside_its_aim_and_is_bold_where_it_misses_it(row, figure, value, written):
    assert cell(row, figure, value) == written


def test_every_row_has_a_label_and_aims_that_have_columns():
    assert set(AIMS) == set(LABELS)
    assert {f for aims in AIMS.values() for f in aims} <= set(HEADS)
    assert set(SIZES) < set(AIMS)
    assert AIMS["33 frames"]["all"] == AIMS["move"]["all"] - 10


def test_the_table_keeps_its_order_whichever_process_ends_first(tmp_path):
    path = tmp_path / "figures.json"
    merge(path, "two", {"clips": 4, "all": 80.0})
    table = markdown(merge(path, "move", {"clips": 8, "all": 50.0})).splitlines()
    assert table[0] == "| | clips | all |"
    assert table[2:] == [f"| {LABELS['move']} | 8 | **50** (85) |", f"| {LABELS['two']} | 4 | 80 (80) |"]


def test_a_card_gets_the_table_and_the_sheets_and_keeps_the_rest(tmp_path):
    (tmp_path / "docs/images").mkdir(parents=True)
    card = tmp_path / "docs/card.md"
    card.write_text(CARD)
    merge(tmp_path / "figures.json", "9 frames", {"clips": 8})
    sheet(tmp_path / "9-frames.webp", [np.zeros((9, 8, 8, 3), np.uint8)] * 3)
    for _ in range(2):
        renew_card(card, tmp_path)
        assert card.read_text() == CARD.replace("old", markdown({"9 frames": {"clips": 8}}))
    with Image.open(tmp_path / "docs/images/tiny-9-frames.webp") as picture:
        assert picture.size == (2 * (6 * 8 + 6), 2 * (8 + 2))


def test_a_card_without_a_place_for_the_figures_is_left_alone(tmp_path):
    card = tmp_path / "card.md"
    card.write_text("nothing here")
    merge(tmp_path / "figures.json", "move", {"clips": 8})
    with pytest.raises(ValueError, match="0 places"):
        renew_card(card, tmp_path)
    assert card.read_text() == "nothing here"

from __future__ import annotations

from pathlib import Path

from vitascope.cli.flag_docs import page

FLAGS = Path(__file__).parents[2] / "docs" / "flags.md"


def test_the_page_of_flags_is_up_to_date():
    assert FLAGS.read_text(encoding="utf-8") == page(), "run `make docs`"


def test_every_kind_of_row_is_told():
    rows = {
        cells[1].strip(): cells[2].strip()
        for line in page().splitlines()
        if len(cells := line.split("|")) == 4
    }
    assert rows["`--omni`"] == "`true` is accepted; otherwise refused: Language models"
    assert rows["`--served-model-name`"] == "is `--model-name`"
    assert rows["`--720p`"] == "is `--width 1280` `--height 720`"
    assert rows["`--cache-config`"] == "refused: Reusing work across steps"
    assert rows["`--flow-shift`"].startswith("`serve`: refused: Other values than the model's")
    assert rows["`cpu_offload`"].startswith("`False` is accepted; otherwise refused: weights cannot be")
    assert rows["`trust_remote_code`"].startswith("accepted without effect: no code")
    assert rows["`worker_ip`"].startswith("refused: ")
    assert rows["`-lm NAME VALUE`"] == "`--lora NAME=VALUE`"
    assert rows["`-q VALUE`"] == "`--quantization VALUE`"
    assert rows["`--trust-remote-code`"] == "accepted either way: Code from a model folder; none is ever run"

from __future__ import annotations

import json
import subprocess

import numpy as np

from tiny_clips import encoded
from vitascope.media import decoder
from vitascope.media.clip_decoding import Fit, Limits, frames, probe
from vitascope.media.clips import DECODER
from vitascope.media.decoder import Order, obey
from vitascope.media.lossless import clip_key, read_lossless

LIMITS = Limits(max_pixels=100 * 100, max_frames=50)
WHOLE = Fit(width=48, height=32, num_frames=9)


def test_an_order_is_answered_with_facts_a_name_or_a_refusal(tmp_path):
    clip, into = encoded(), tmp_path / "kept"
    assert obey(Order(limits=LIMITS), clip).facts == probe(clip, LIMITS)
    sha256 = obey(Order(limits=LIMITS, fit=WHOLE, into=str(into)), clip).sha256
    with into.open("rb") as file:
        kept = np.concatenate(list(read_lossless(file)))
    assert clip_key(kept) == f"{sha256}.lossless"
    assert (kept == np.stack(list(frames(clip, LIMITS, WHOLE)))).all()
    assert "formats" in str(obey(Order(limits=LIMITS), b"x").refused)


def test_the_decoder_gives_up_memory_files_and_time():
    told = (
        "from vitascope.media import decoder; import resource as r, json\n"
        "decoder.confine(lambda: 7)\n"
        "kinds = r.RLIMIT_AS, r.RLIMIT_CPU, r.RLIMIT_CORE, r.RLIMIT_NOFILE\n"
        "print(json.dumps([r.getrlimit(kind)[0] for kind in kinds]))"
    )
    done = subprocess.run([DECODER[0], "-P", "-c", told], stdout=subprocess.PIPE, check=True, timeout=600)
    assert json.loads(done.stdout) == [7 + decoder.MEMORY_BYTES, decoder.CPU_S, 0, decoder.FILES]

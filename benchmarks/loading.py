"""Loading weights: ours, which hashes them on the way, against diffusers' `from_pretrained`.

    python benchmarks/loading.py [--gigabytes 1.5] [--shards 4] [--rounds 3] [--stored bfloat16]

A transformer of Wan's class with random weights is written in shards into a temporary folder. Each way then
loads it in a forked process of its own, in turns. The files are in the system's cache for all. Ways:

- vitascope: `Checkpoint.network` and `Checkpoint.identity`, as a worker loads
- hashed + from_pretrained: what Vitascope did before: every file hashed, then `from_pretrained`
- from_pretrained: diffusers alone, nothing hashed; weights of the right dtype stay in the mapped files, so
  one weight of each page is looked at afterwards, as the first step would

Printed are medians: seconds, CPU seconds of all threads, the peak of resident memory above that before
loading (`anonymous` without pages of files), and the bytes of `read` calls.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.modeling_utils import no_init_weights

from vitascope.weights.checkpoint import Checkpoint

CPU = torch.device("cpu")


def ours(folder: Path, dtype: torch.dtype) -> torch.nn.Module:
    checkpoint = Checkpoint.open(folder)
    network = checkpoint.network("transformer", WanTransformer3DModel, CPU, dtype)
    checkpoint.identity()
    return network


def theirs(folder: Path, dtype: torch.dtype) -> torch.nn.Module:
    return WanTransformer3DModel.from_pretrained(folder / "transformer", dtype=dtype)


def before(folder: Path, dtype: torch.dtype) -> torch.nn.Module:
    def digest(file: Path) -> str:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    network = theirs(folder, dtype)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(digest, sorted(folder.glob("*/*.safetensors"))))
    return network


WAYS: dict[str, Callable[[Path, torch.dtype], torch.nn.Module]] = {
    "vitascope": ours,
    "hashed + from_pretrained": before,
    "from_pretrained": theirs,
}


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        size = forked(write, folder, args.gigabytes, args.shards, getattr(torch, args.stored))
        found = {way: [] for way in WAYS}
        for turn in range(args.rounds + 1):
            for way in sorted(WAYS, reverse=bool(turn % 2)):
                told = forked(measure, WAYS[way], folder, getattr(torch, args.dtype))
                if turn:  # the first brings the files into the cache
                    found[way].append(told)
    print(f"{size / 1e9:.2f} GB of {args.stored} in {args.shards} shards, loaded as {args.dtype}")
    columns = list(found["vitascope"][0])
    print(f"{'':26}" + "".join(f"{column:>12}" for column in columns))
    for way, rows in found.items():
        print(f"{way:26}" + "".join(f"{statistics.median(row[c] for row in rows):12.2f}" for c in columns))


def forked(work: Callable, *given: object) -> object:
    """Do some work in a process of its own, whose memory holds nothing of what was done before."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=lambda: theirs.send(work(*given)))
    child.start()
    told = ours.recv()
    child.join()
    return told


def write(folder: Path, gigabytes: float, shards: int, dtype: torch.dtype) -> int:
    """Write a folder with about that many bytes of weights; return how many they are."""
    block = 15 * 1024**2 * dtype.itemsize  # about what one of these has
    layers = max(1, round(gigabytes * 1e9 / block))
    with no_init_weights():
        network = WanTransformer3DModel(
            num_attention_heads=8, attention_head_dim=128, ffn_dim=4096, num_layers=layers, text_dim=1024
        )
    for parameter in network.parameters():
        parameter.data = torch.rand(parameter.shape, dtype=dtype)
    size = sum(p.numel() * p.element_size() for p in network.parameters())
    network.save_pretrained(folder / "transformer", max_shard_size=int(1.05 * size / shards))
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": "WanPipeline", "transformer": ["diffusers", "WanTransformer3DModel"]})
    )
    return size


def measure(way: Callable[[Path, torch.dtype], torch.nn.Module], folder: Path, dtype: torch.dtype) -> dict:
    base = memory()
    watch = Watch()
    wall, cpu, read = time.perf_counter(), cpu_s(), bytes_read()
    with watch:
        network = way(folder, dtype)
        for tensor in network.parameters():
            tensor.view(-1)[:: 4096 // tensor.element_size()].sum()  # one weight of each page
    return {
        "s": time.perf_counter() - wall,
        "CPU s": cpu_s() - cpu,
        "peak GB": (watch.peak[0] - base[0]) / 1e9,
        "anonymous": (watch.peak[1] - base[1]) / 1e9,
        "read GB": (bytes_read() - read) / 1e9,
    }


class Watch(threading.Thread):
    """Looks at the resident memory all the time."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._done = (0, 0), threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.005):
            self.peak = tuple(map(max, self.peak, memory()))

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self.peak = tuple(map(max, self.peak, memory()))
        self._done.set()


def memory() -> tuple[int, int]:
    """Return resident bytes, and those of them that are no pages of files."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    kilobytes = [int(lines[name].split()[0]) for name in ("VmRSS", "RssAnon")]
    return kilobytes[0] * 1024, kilobytes[1] * 1024


def bytes_read() -> int:
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["rchar"])


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.5)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stored", default="bfloat16", help="dtype in the files")
    parser.add_argument("--dtype", default="bfloat16", help="dtype to load")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""`vitascope.worker.main`, held and killed where a test says; the folder of its `Holds` comes first."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

from faults import Faults
from holds import LOOK_S, Holds


def main() -> int:
    """Wait as long as loading is held, then be a worker."""
    holds = Holds(Path(sys.argv.pop(1)))
    while holds.is_loading_held:
        time.sleep(LOOK_S)
    from held_engine import held_engine
    from vitascope.worker import main as worker

    worker.Engine = held_engine(holds)
    Faults(holds.folder / "faults").install_in_worker()
    return worker.main()


if __name__ == "__main__":
    ended = main()
    logging.shutdown()
    os._exit(ended)  # as the real one does

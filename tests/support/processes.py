"""Commands in separate processes: one, or several started by torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).parent
ROOT = SUPPORT.parents[1]


def run_by(count: int, *arguments: object, folder: Path = SUPPORT) -> str:
    """The output of `ganmod ARGUMENTS`, run by `count` processes in `folder`, which is on the path."""
    # The dashes before the arguments: torchrun reads --num as an abbreviation of one of its options.
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    ended = subprocess.run(
        [sys.executable, *(launch if count > 1 else []), "-m", "ganmod", "--", *map(str, arguments)],
        cwd=folder,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, SUPPORT, folder))),
        },
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout

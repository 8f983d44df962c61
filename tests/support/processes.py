"""Commands in processes of their own: one, or several as torchrun starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).parent
ROOT = SUPPORT.parents[1]


def run_by(count: int, *arguments: object, folder: Path = SUPPORT) -> str:
    """What `ganmod ARGUMENTS` prints, run by so many processes in `folder`, which is on the path."""
    # The dashes before the arguments: torchrun takes --num for short of one of its own options.
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

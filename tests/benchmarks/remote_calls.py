"""What a remote call and its backward cost, beside torch.distributed.rpc in the same run: `distgrad bench`.

python -m tests.benchmarks.remote_calls [--lane unix] [--measure call] ...
"""

from __future__ import annotations

import sys

from distgrad.cli import main

if __name__ == "__main__":
    main(["bench", *sys.argv[1:]])

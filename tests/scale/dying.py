"""`python -m vlpnb` for `torchrun`, whose processes are killed (SIGKILL, from inside, so that it is certain).

VLPNB_DEATHS is a JSON list: entry n is (rank, text), and in the n-th attempt of the group the process of that rank dies
when it renames the second file whose name contains the text: a shard, complete under a temporary name, that is lost.
"""

import json
import os
import re
import signal
import sys


def watch(rank: int, pattern: str) -> None:
    seen = []

    def hook(event: str, arguments: tuple) -> None:
        if event == "os.rename" and re.search(pattern, os.fsdecode(arguments[1])):
            seen.append(event)
            if len(seen) == 2:
                print(f"process {rank} dies at {os.path.basename(os.fsdecode(arguments[1]))}", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)

    if rank == int(os.environ["RANK"]):
        sys.addaudithook(hook)


if __name__ == "__main__":
    deaths = json.loads(os.environ["VLPNB_DEATHS"])
    attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    if attempt < len(deaths):
        watch(*deaths[attempt])

    from vlpnb.course.cli import main

    main(sys.argv[1:])

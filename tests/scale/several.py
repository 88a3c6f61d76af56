"""`python -m vlpnb stage NAME …` for several stages, one after the other, in one start of `torchrun`.

torchrun … several.py NAME,NAME,… OPTIONS
"""

import sys

from vlpnb.course.cli import main

if __name__ == "__main__":
    for name in sys.argv[1].split(","):
        try:
            main(["stage", name, *sys.argv[2:]])
        except SystemExit as end:
            if end.code:
                raise

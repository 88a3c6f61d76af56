"""The one error that is meant for the person at the keyboard.

Everything that a user can get wrong (a field, a path, a line of a file) raises `UserError`; the command line
prints its message without a traceback and exits with code 2. Every other exception is a defect or a broken
machine and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """For the user: names the file, line or field, what was found, what was expected, what to do."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """`"; did you mean 'epochs'? (valid: …)"`: the end of a message about an unknown name."""
    names = sorted(str(item) for item in valid)
    folded = {item.lower(): item for item in names}
    near = difflib.get_close_matches(str(name).lower(), folded, n=1, cutoff=0.5)
    hint = f"; did you mean {folded[near[0]]!r}?" if near else ""
    return f"{hint} (valid: {', '.join(names) or 'none'})"

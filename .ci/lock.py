"""Print what `constraints.txt` holds: the versions, installed here, of all that the package and its extras need."""

import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def needed(requirements: list[str], extras: set[str]) -> list[Requirement]:
    """The requirements that hold on this machine, for some extras of the package that states them."""
    parsed = map(Requirement, requirements)
    return [r for r in parsed if not r.marker or any(r.marker.evaluate({"extra": e}) for e in extras | {""})]


def versions(project: dict) -> dict[str, str]:
    """name → version of the direct and the indirect dependencies; an extra may name what is not installed."""
    direct = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    waiting, seen, found = needed(direct, set()), set(), {}
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f"{name} is not installed; run `make test` first") from None
        found[name] = Version(package.version).public  # 2.9.0+cu130 → 2.9.0
        waiting += needed(package.requires or [], requirement.extras)
    return found


if __name__ == "__main__":
    print(
        "# The versions with which the tests passed last: made by `make lock`, left out by `make CONSTRAINTS= …`."
    )
    for name, version in sorted(versions(tomllib.loads(PYPROJECT.read_text())["project"]).items()):
        print(f"{name}=={version}")

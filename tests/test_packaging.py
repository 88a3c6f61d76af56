"""The ways to install agree with each other."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_environment_yml_installs_what_pyproject_declares():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [d for d in environment["dependencies"] if isinstance(d, str)]
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert f"python{PROJECT['requires-python']}" in conda
    assert len(pip) == 1, "the package brings its dependencies; list none twice"
    extras = re.fullmatch(r"--editable \.\[([\w,]+)\]", pip[0])
    assert extras, f"expected an editable install of this package, found {pip[0]!r}"
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
    assert "pytorch" not in environment["channels"], "the pytorch conda channel is discontinued"


def test_every_room_has_its_place_in_the_layers():
    [contract] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    placed = {name for layer in contract["layers"] for name in re.split(r"\s*[|:]\s*", layer)}
    found = {
        f"vlpnb.{path.stem}"
        for path in (ROOT / "vlpnb").iterdir()
        if path.name[0] != "_" and (path.suffix == ".py" or (path / "__init__.py").is_file())
    }
    assert found <= placed, "name it in pyproject.toml, or nothing says what it may import"


def test_course_packages_are_declared():
    declared = {re.split(r"[<>=;\s\[]", d, maxsplit=1)[0] for d in PROJECT["dependencies"]}
    chosen = "jupyterlab torch torchvision transformers faiss-gpu h5py matplotlib ipywidgets papermill"
    assert set(chosen.split()) <= declared


def test_the_tested_versions_satisfy_every_direct_dependency():
    """Those of Linux on x86-64, where `make lock` is run; elsewhere another faiss is installed, and not pinned."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in lines), (
        "name==version, nothing else"
    )
    assert list(pins) == sorted(pins)
    direct = map(Requirement, [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())])
    linux = {"sys_platform": "linux", "platform_machine": "x86_64"}
    for requirement in direct:
        if requirement.marker is None or requirement.marker.evaluate(linux):
            assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_make_installs_the_tested_versions():
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^INSTALL = .*pip install.*--constraint ,\$\(CONSTRAINTS\)", makefile, flags=re.M)
    by_hand = [
        line
        for line in re.findall(r"^\t.*pip install.*", makefile, flags=re.M)
        if "--upgrade pip" not in line
    ]
    assert by_hand == []


def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"\.PHONY: (.+)", makefile)[1].split()) - {"help"}
    described = set(re.findall(r"^([a-z-]+):.*##", makefile, flags=re.M)) - {"help"}
    assert phony == described
    assert {"course", "check", "test", "lint", "lab", "site", "bench"} <= phony


def test_what_the_guide_for_contributors_names_is_there():
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"`(\w[\w./]*/[\w./]*)`", guide)
    assert len(paths) > 25
    assert [path for path in paths if not (ROOT / path).exists()] == []
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    assert set(re.findall(r"\bmake ([a-z-]+)", guide)) <= targets


def test_ci_calls_the_test_command_of_the_readme():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()

"""The ways to install agree with each other."""

import re
import tomllib
from pathlib import Path

import yaml

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


def test_course_packages_are_declared():
    declared = {re.split(r"[<>=;\s\[]", d, maxsplit=1)[0] for d in PROJECT["dependencies"]}
    chosen = "jupyterlab torch torchvision transformers faiss-gpu h5py matplotlib ipywidgets papermill"
    assert set(chosen.split()) <= declared


def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"\.PHONY: (.+)", makefile)[1].split()) - {"help"}
    described = set(re.findall(r"^([a-z]+):.*##", makefile, flags=re.M)) - {"help"}
    assert phony == described
    assert {"course", "test", "lint", "lab", "site", "bench"} <= phony


def test_ci_calls_the_test_command_of_the_readme():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()

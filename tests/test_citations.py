"""What files cite can be read by whoever has the repository: papers, and the quirks in it."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = {".cfg", ".ipynb", ".js", ".md", ".py", ".sbatch", ".toml", ".yaml", ".yml"}
# A section of a paper follows its name or the word "paper"; of a specification there is none here to read.
UNREADABLE = re.compile(r"\bspec\.? +(?:section|§)?\s*\d|\bspecifications?\b[^.\n]{0,20}\bsections?\b"
                        r"|\bour specifications?\b|\b(?<!VOK-)[QD]-\d\d\b", re.IGNORECASE)  # fmt: skip
QUIRK = re.compile(r"\b[A-Z]{3}-D?\d\d\b")


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in listed.stdout.split("\0") if Path(name).suffix in TEXT]


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    files = [path for path in tracked() if path.is_file() and path != Path(__file__)]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in files}


def test_no_file_cites_a_document_that_is_not_here(texts):
    found = [f"{name}: {match[0]}" for name, text in texts.items() for match in UNREADABLE.finditer(text)]
    assert found == []


CITATIONS = [
    "(spec 9.4)",
    "Spec section 6",
    "our specification",
    "specification, sections 3 and 5",
    "quirk Q-05",
]


@pytest.mark.parametrize("text", CITATIONS)
def test_such_citations_are_recognised(text):
    assert UNREADABLE.search(text)


def test_every_quirk_that_is_cited_is_on_its_systems_page(texts):
    pages = {name: text for name, text in texts.items() if name.endswith("quirks.md")}
    rows = {
        row for page in pages.values() for row in re.findall(r"^\| ([A-Z]{3}-D?\d\d) \|", page, re.MULTILINE)
    }
    prefixes = {row[:3] for row in rows}
    cited = {
        (name, quirk)
        for name, text in texts.items()
        if name not in pages
        for quirk in QUIRK.findall(text)
        if quirk[:3] in prefixes
    }
    assert len(cited) > 50
    assert {(name, quirk) for name, quirk in cited if quirk not in rows} == set()

"""What needs Java: the Penn Treebank's words, METEOR and SPICE, from the package `pycocoevalcap`.

The package holds the programs (104 MB) and comes with the extra `captions`; nothing else here needs it. Its word
splitter is started without the package's own wrapper, which writes into the folder of the installation.

What users stumbled over is looked at before: no Java, a Java that SPICE does not run on, a folder with a space in its
path (METEOR then dies without a word), SPICE's models that are fetched on first use.
"""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from vlpnb.errors import UserError

INSTALL = "pip install 'vlpnb[captions]' and a Java runtime, such as apt-get install default-jre-headless"
# Brackets are in the official list in capitals and the splitter gives small letters, so they stay (quirk VLP-21).
DROPPED = frozenset({"''", "'", "``", "`", ".", "?", "!", ",", ":", ";", "-", "--", "..."})
_LAST_JAVA_OF_SPICE = 15
_MODELS = "spice/lib/stanford-corenlp-3.6.0-models.jar"


def package_folder() -> Path | None:
    """Where `pycocoevalcap` is installed; None where it is not."""
    found = importlib.util.find_spec("pycocoevalcap")
    places = list(found.submodule_search_locations or ()) if found else []
    return Path(places[0]) if places else None


@cache
def java_version() -> int | None:
    """The feature number of the Java that `java` starts (8, 11, 17 …); None without a working one."""
    if shutil.which("java") is None:
        return None
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(?:1\.)?(\d+)', said.stderr + said.stdout)
    return int(found[1]) if said.returncode == 0 and found else None


def why_no_words() -> str | None:
    """Why the Penn Treebank's words are not to be had here; None where they are."""
    if package_folder() is None:
        return f"the package pycocoevalcap is not installed ({INSTALL})"
    if java_version() is None:
        return f"there is no Java: `java -version` does not run ({INSTALL})"
    return None


def why_no_meteor() -> str | None:
    """Why METEOR is not to be had here; None where it is."""
    folder = package_folder()
    if folder is not None and " " in str(folder):
        return f"METEOR ends with 'broken pipe' where its folder has a space in its path: {folder}"
    return why_no_words()


def why_no_spice() -> str | None:
    """Why SPICE is not to be had here; None where it is."""
    folder, version = package_folder(), java_version()
    if folder is None or version is None:
        return why_no_words()
    if version > _LAST_JAVA_OF_SPICE:
        return f"SPICE does not run on Java {version}; expected Java 8 or 11"
    if not (folder / _MODELS).is_file():
        return (
            f"{folder / _MODELS} is missing: models of Stanford CoreNLP 3.6.0, which the package fetches when its "
            "module spice/get_stanford_models.py is called where there is a network"
        )
    return None


def ptb_words(texts: Sequence[str]) -> list[list[str]]:
    """The words of every text, as the official evaluation makes them.

    Raises:
        UserError: no package, no Java, or a splitter that fails.
    """
    if (reason := why_no_words()) is not None:
        raise UserError(
            f'captions cannot be split into the Penn Treebank\'s words: {reason}; or ask for tokens="own"'
        )
    if not texts:
        return []
    program = ["java", "-cp", "stanford-corenlp-3.4.1.jar", "edu.stanford.nlp.process.PTBTokenizer"]
    lines = "".join(" ".join(text.split()) + "\n" for text in texts)
    done = subprocess.run(
        [*program, "-encoding", "UTF-8", "-preserveLines", "-lowerCase"],
        cwd=package_folder() / "tokenizer",
        input=lines.encode(),
        capture_output=True,
        check=False,
    )
    rows = done.stdout.decode().split("\n")
    if done.returncode or len(rows) != len(texts) + 1:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"the Penn Treebank's word splitter gave {len(rows) - 1} lines for {len(texts)} captions ({last}); "
            "run `java -version`, and see that the memory suffices"
        )
    return [[word for word in row.split() if word not in DROPPED] for row in rows[:-1]]


def meteor(
    hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> tuple[float, list[float]]:
    """METEOR 1.5 (Denkowski and Lavie 2014) of the whole and of each caption, from the Penn Treebank's words.

    Raises:
        UserError: it is not to be had here, or its program ended.
    """
    if (reason := why_no_meteor()) is not None:
        raise UserError(f"METEOR cannot be computed: {reason}")
    from pycocoevalcap.meteor.meteor import Meteor

    program = Meteor()
    try:
        score, each = program.compute_score(*_named(hypotheses, references))
    except (OSError, ValueError) as error:
        raise UserError(f"METEOR's program ended ({error}); see that 2 GB of memory are free") from error
    finally:
        program.meteor_p.kill()
        for pipe in (program.meteor_p.stdout, program.meteor_p.stderr):
            pipe.close()
    return float(score), [float(value) for value in each]


def spice(
    hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> tuple[float, list[float]]:
    """SPICE (Anderson et al. 2016) of the whole and of each caption.

    Raises:
        UserError: it is not to be had here, or its program ended.
    """
    if (reason := why_no_spice()) is not None:
        raise UserError(f"SPICE cannot be computed: {reason}")
    from pycocoevalcap.spice.spice import Spice

    try:
        score, each = Spice().compute_score(*_named(hypotheses, references))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise UserError(f"SPICE's program ended ({error}); see that 8 GB of memory are free") from error
    return float(score), [float(row["All"]["f"]) for row in each]


def _named(hypotheses, references) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """References and hypotheses by number, as the package takes them."""
    joined = {i: [" ".join(words) for words in those] for i, those in enumerate(references)}
    return joined, {i: [" ".join(words)] for i, words in enumerate(hypotheses)}

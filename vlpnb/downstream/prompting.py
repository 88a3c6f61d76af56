"""Prompts: what a language model is asked, as data files with a hash beside every result that they gave.

Paper: VaLM (Wang et al. 2023), section 4 and appendix: zero-shot questions, answered by the likeliest of a few words.
The prompts of the released code differ from those of the paper's appendix, and a template changes a score by ten
points; so they are files (`prompts/`), named and hashed, and a file of one's own takes their place.

A template has places in braces. An empty descriptor goes together with the space behind it. The release leaves the
descriptor's place in the prompts of two-column files (VAL-32); here no prompt keeps a place: it is an error.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Formatter

import yaml

from vlpnb.data.fields import as_text, list_field, text_field
from vlpnb.errors import UserError, did_you_mean
from vlpnb.files import content_hash

FOLDER = Path(str(files("vlpnb.downstream"))) / "prompts"
PLACE = re.compile(r"\[[A-Z][A-Z_ ]*\]|<[a-z_]+>|[{}]")  # what is left of a template that nobody filled in


@dataclass(frozen=True)
class PromptSet:
    """Ways to ask one thing. `answers`: what all of its prompts can be answered with; none where the data say it."""

    name: str
    templates: tuple[str, ...]
    answers: tuple[str, ...]
    sha256: str


def load_prompts(name: str) -> PromptSet:
    """The prompts of a name in `prompts/`, or of a YAML file {templates: [...], answers: [...]}.

    Raises:
        UserError: there are none of that name, or the file holds no templates, or one with a place that is no {name}.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in FOLDER.glob("*.yaml"))
        raise UserError(f"there are no prompts '{name}', nor such a file ….yaml{did_you_mean(name, known)}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no YAML that can be read ({error}).") from error
    templates = _texts(content, "templates", path)
    answers = _texts(content, "answers", path) if content.get("answers") is not None else ()
    text_field(content, "about", str(path), "")
    if not templates:
        raise UserError(f"{path}: templates is empty; expected at least one.")
    for i, text in enumerate((*templates, *answers)):
        places_of(text, f"{path}: {'templates' if i < len(templates) else 'answers'}: {text!r}")
    return PromptSet(path.stem, templates, answers, content_hash(path))


def _texts(content: object, name: str, path: Path) -> tuple[str, ...]:
    return tuple(
        as_text(text, f"{path}: {name}[{i}]") for i, text in enumerate(list_field(content, name, str(path)))
    )


def places_of(template: str, where: str = "template") -> tuple[str, ...]:
    """The names of a template's places, in order. UserError for a brace or a mark that is none."""
    try:
        found = [(text, name) for text, name, *_ in Formatter().parse(template)]
    except ValueError as error:
        raise UserError(f"{where}: {error}; a place is written {{name}}.") from error
    for text, name in found:
        if (left := PLACE.search(text)) or (name is not None and not name.isidentifier()):
            raise UserError(
                f"{where}: '{left.group() if left else f'{{{name}}}'}' would be left in the prompt; a place is "
                "written {name}."
            )
    return tuple(name for _, name in found if name is not None)


def render(template: str, fields: Mapping[str, str]) -> str:
    """A template with its places filled in; an empty one goes with the space behind it (or, at the end, before it).

    Raises:
        UserError: a place for which there is no field, or one inside a field's text, so that it would stay.
    """
    for name in places_of(template):
        if name not in fields:
            raise UserError(
                f"prompt {template!r}: nothing is said for {{{name}}}, so that the place would be left in the prompt; "
                f"there are {', '.join(fields) or 'no fields'}."
            )
        if not fields[name].strip():
            template = re.sub(rf"\{{{name}\}} |\s?\{{{name}\}}", "", template)
    return template.format_map({name: text.strip() for name, text in fields.items()})


def rendered(prompts: PromptSet, items: Sequence[Mapping[str, str]]) -> list[str]:
    """All prompts: template by template, the items inside."""
    return [render(template, item) for template in prompts.templates for item in items]

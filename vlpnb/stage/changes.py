"""Files from outside that a stage reads: which of them changed since it was made, and while it is."""

import json
from pathlib import Path

from vlpnb.errors import UserError
from vlpnb.files import read_back, write_text
from vlpnb.hashes import differences, files_below, hash_files
from vlpnb.stage.folder import manifests
from vlpnb.stage.plan import Plan


def check_unchanged(plan: Plan) -> None:
    """A result belongs to what was there when it was begun.

    Raises:
        UserError: names what changed meanwhile.
    """
    now, then = plan.stage.content(plan.config), plan.identity.get("outside", {})
    changed = [str(plan.stage.outside(plan.config)[name]) for name in now if now[name] != then.get(name)]
    if changed and set(now.values()) != {"absent"}:
        raise UserError(
            f"{', '.join(changed)}: changed while the stage {plan.stage.name!r} read it; run it again"
        )


def remember(plan: Plan) -> None:
    """Keep what each file of the folders from outside holds beside the result, to tell one day which changed."""
    if folders := _folders(plan):
        write_text(_memory(plan.folder), json.dumps(folders, ensure_ascii=False, separators=(",", ":")))


def changed_since(plan: Plan) -> str:
    """What holds something else than for the latest result that is the same otherwise, in words; "" without one."""
    now = plan.identity.get("outside", {})
    same = [
        (manifest["finished"], folder.name, manifest["identity"]["outside"])
        for folder, manifest in manifests(plan.folder.parent)
        if now and {**manifest["identity"], "outside": now} == plan.identity
    ]
    if not same:
        return ""
    _, earlier, then = max(same)
    path = _memory(plan.folder.with_name(earlier))
    before, folders = read_back(path) if path.is_file() else {}, _folders(plan)
    lines = []
    for name in sorted({*now, *then}):
        if now.get(name) != then.get(name):
            both = name in before and name in folders
            how = differences(before[name], folders[name]) if both else f"now {now.get(name, 'absent')[:8]}"
            lines.append(f"{name}: {how}")
    return f"what it reads changed since {earlier}: {'; '.join(lines)}"


def _folders(plan: Plan) -> dict[str, dict[str, str]]:
    places = plan.stage.outside(plan.config)
    return {name: hash_files(path, files_below(path)) for name, path in places.items() if path.is_dir()}


def _memory(folder: Path) -> Path:
    return folder / ".outside.json"

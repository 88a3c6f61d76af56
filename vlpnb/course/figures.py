"""The committed figures of the README: which picture of which notebook each one is.

`vlpnb figures --run NAME` draws them again from a finished run.
"""

from pathlib import Path

from vlpnb.errors import UserError
from vlpnb.files import atomic

# file under figures/ → (beginning of the notebook's name, words of the figure's alt text); one for each system
FIGURES: dict[str, tuple[str, str]] = {
    "vokens.png": ("13", "each above its voken"),
    "lxmert.png": ("21", "three regions that [CLS] attends to most"),
    "vlp.png": ("31", "the best captions by CIDEr"),
    "valm.png": ("42", "right, calibrated (world_colour)"),
    "cclm.png": ("52", "text→picture R@10"),
}


def copy_figures(run_folder: Path, target: Path) -> list[Path]:
    """Copy the chosen figures out of a run's executed notebooks; those of notebooks that it has not executed stay.

    Raises:
        UserError: no notebook of these was executed in this run, or one has no figure with such an alt text.
    """
    import base64

    import nbformat

    made = not target.exists()
    target.mkdir(parents=True, exist_ok=True)  # before all else: a place that cannot be written to is named
    written = []
    for name, (beginning, words) in FIGURES.items():
        paths = sorted((run_folder / "notebooks").glob(f"{beginning}*.ipynb"))
        if not paths:
            continue
        outputs = [
            output.data
            for cell in nbformat.read(paths[0], as_version=4).cells
            for output in cell.get("outputs", [])
            if "image/png" in output.get("data", {})
        ]
        fitting = [data for data in outputs if words.lower() in str(data.get("text/plain", "")).lower()]
        if not fitting:
            raise UserError(f"{name}: no figure of {paths[0].name} has {words!r} in its alt text")
        path = target / name
        with atomic(path) as temporary:
            temporary.write_bytes(base64.b64decode(fitting[0]["image/png"]))
        written.append(path)
    if not written:
        if made:
            target.rmdir()
        numbers = ", ".join(beginning for beginning, _ in FIGURES.values())
        raise UserError(f"run {run_folder.name}: none of the notebooks {numbers} was executed in it")
    return written

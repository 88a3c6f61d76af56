"""The public datasets of the course: what they are, where they live, and how a folder that holds them looks.

Nothing is fetched unless asked for (`fetching.py`). Hashes are given where copies of the file agree on them;
where none is known the table says None, and `fetch` reports the hash it found so that it can be written down.
Sizes are for planning disk space; licences are those that publishers state, to be read again at the source.
"""

from collections.abc import Mapping
from types import MappingProxyType

from vlpnb.data.catalog.entry import Expected, PublicDataset, Remote
from vlpnb.data.catalog.pictures import PICTURES
from vlpnb.data.catalog.tasks import TASKS
from vlpnb.data.catalog.text import TEXTS
from vlpnb.errors import UserError, did_you_mean

__all__ = ["DATASETS", "Expected", "PublicDataset", "Remote", "dataset"]

DATASETS: Mapping[str, PublicDataset] = MappingProxyType(
    {dataset.name: dataset for dataset in (*PICTURES, *TEXTS, *TASKS)}
)


def dataset(name: str) -> PublicDataset:
    """The entry of that name; UserError suggests the nearest."""
    if name not in DATASETS:
        raise UserError(f"dataset '{name}' is unknown{did_you_mean(name, DATASETS)}")
    return DATASETS[name]

"""What VLP is given and how it is scored, held against recorded values; see `verify.py`."""

from collections.abc import Iterator

import torch

from vlpnb.data.agreement import Case, Tolerance
from vlpnb.data.recorded import RecordedFolder
from vlpnb.vlp.geometry import PLACE, region_geometry
from vlpnb.vlp.masks import packed_mask, segment_ids, sequence_mask
from vlpnb.vlp.original.recorded_model import config_of, whole_rows


def regions(folder: RecordedFolder) -> Iterator[Case]:
    """Boxes and class probabilities → place and classes of each region, the size estimated from the boxes (VLP-04)."""
    recorded, about = folder.tensors("regions.safetensors"), folder.json("regions.json")
    about["cases"].leave_out("*")  # says in words what is special about each
    allowed = Tolerance.of(about["tolerance"])
    for name in about["cases"]:
        boxes, classes = recorded[f"{name}.box"], recorded[f"{name}.cls"]
        ours = region_geometry(boxes[None, :, :4], boxes[None, :, 5], classes[None])[0]
        yield recorded.case(f"{name}.vis_pe", ours, allowed)
        yield about.case("rows", len(ours))
        yield about.case("classes", ours.shape[1] - PLACE)


def masks(folder: RecordedFolder) -> Iterator[Case]:
    """Ids, segments and attention masks of both modes for several lengths, and of decoding."""
    recorded, about, sizes = (
        folder.tensors("masks.safetensors"),
        folder.json("masks.json"),
        folder.json("config.json"),
    )
    config = config_of(folder)
    prefix, most, steps = config.prefix, config.text_length, sizes["steps"]
    for n in about["lengths"]:
        for mode in ("s2s", "bi"):
            name, kept = f"{mode}.{n}", min(n, most)
            arguments = torch.tensor([kept]), torch.tensor([mode == "s2s"]), prefix, most + 1
            mask = sequence_mask(*arguments)[0, 0]
            yield recorded.case(f"{name}.mask", mask)
            yield about["row_sums"].case(name, mask.sum(1))
            yield recorded.case(f"{name}.segments", segment_ids(*arguments, 6)[0])
            yield recorded.case(f"{name}.segments_two", segment_ids(*arguments, 2)[0])
            words = recorded[f"{name}.ids"].long()[prefix : prefix + kept]
            text = torch.full((1, most + 1), config.pad_id)
            text[0, :kept], text[0, kept] = words, config.sep_id
            yield recorded.case(f"{name}.ids", whole_rows(config, text)[0])
    yield recorded.case("decode.ids", whole_rows(config, torch.zeros(1, 0, dtype=torch.long))[0])
    everything = torch.tensor([steps - 1]), torch.tensor([True]), prefix, steps
    yield recorded.case("decode.segments", segment_ids(*everything, 6)[0])
    yield recorded.case("decode.mask", packed_mask(torch.tensor([[steps - 1]]), prefix, steps)[0, 0])
    yield recorded.case("decode.positions", torch.arange(prefix + steps))


CHECKS = (regions, masks)

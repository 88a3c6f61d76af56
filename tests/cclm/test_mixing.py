"""What an update sees: captions or regions by one coin, parallel text beside them, and losses by the same names."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vlpnb.cclm.mixing import Batches, spoken
from vlpnb.cclm.pretraining import OriginalPretraining, PretrainingConfig
from vlpnb.errors import UserError


def part(names: tuple[str, ...], **tensors: torch.Tensor):
    return SimpleNamespace(batch=tensors, counts=dict.fromkeys(names, 3), tokens=5)


def captions(update: int):
    return part(("itc", "itm", "words"), ids=torch.tensor([update]), identity=torch.tensor([0]))


def regions(update: int):
    return part(
        ("itc", "itm", "words", "boxes", "giou"), ids=torch.tensor([-update]), boxes=torch.zeros(1, 4)
    )


def parallel(update: int):
    return part(("ttc", "ttm", "parallel_words"), ids=torch.tensor([update + 100]))


def mixed(seed: int = 1, **fields) -> Batches:
    return Batches(PretrainingConfig(seed=seed, **fields), captions, regions, parallel)


def test_parallel_text_is_part_of_every_update():
    for update in range(4):
        made = mixed()(update)
        assert len(made.micro) == 1
        assert made.micro[0]["parallel_ids"].tolist() == [update + 100]
        assert made.tokens == 10


def test_the_coin_is_fair_and_a_function_of_seed_and_update():
    shown = [mixed().shows_regions(update) for update in range(400)]
    assert 150 < sum(shown) < 250
    assert shown == [mixed().shows_regions(update) for update in range(400)]
    assert shown != [mixed(seed=2).shows_regions(update) for update in range(400)]
    for update, region in enumerate(shown[:20]):
        assert ("boxes" in mixed()(update).micro[0]) == region
    assert not any(mixed(region_rate=0.0).shows_regions(update) for update in range(50))


def test_every_update_names_the_same_losses_and_counts_none_where_nobody_asks():
    made = [mixed()(update) for update in range(20)]
    assert {tuple(update.counts) for update in made} == {PretrainingConfig().losses}
    assert {update.counts["boxes"] for update in made} == {0, 3}


def test_identities_can_be_left_out_as_in_the_original():
    assert "identity" in mixed(region_rate=0.0)(0).micro[0]
    faithful = OriginalPretraining(no_identities=True)
    assert "identity" not in mixed(region_rate=0.0, original=faithful)(0).micro[0]


def test_languages_are_those_asked_for_less_the_withheld_ones():
    assert spoken((), ("de", "en", "fr"), ("fr",), "languages") == ("de", "en")
    assert spoken(("en",), ("de", "en"), (), "pictures_in") == ("en",)
    with pytest.raises(UserError, match=r"cclm\.pretraining\.languages: found 'ja'; the data has de, en"):
        spoken(("ja",), ("de", "en"), (), "languages")
    with pytest.raises(UserError, match=r"cclm\.pretraining\.withheld: found 'ja'"):
        spoken((), ("de", "en"), ("ja",), "languages")


@pytest.mark.parametrize(
    ("variant", "without"),
    [
        ("no_parallel", {"ttc", "ttm", "parallel_words"}),
        ("no_regions", {"boxes", "giou"}),
        ("contrastive_only", {"itm", "words", "boxes", "giou", "ttm", "parallel_words"}),
    ],
)
def test_variants_leave_objectives_out(variant, without):
    everything = set(PretrainingConfig().losses)
    assert everything - set(PretrainingConfig(variant=variant).losses) == without


def test_regions_are_off_where_no_update_sees_them():
    assert not {"boxes", "giou"} & set(PretrainingConfig(region_rate=0.0).losses)


def test_a_language_is_not_both_wanted_and_withheld():
    with pytest.raises(ValueError, match="fr is also in `withheld`"):
        PretrainingConfig(languages=("en", "fr"), withheld=("fr",))


def test_random_numbers_of_updates_do_not_repeat():
    draws = {np.random.default_rng([1, update, 0xC01]).random() for update in range(50)}
    assert len(draws) == 50

"""Parts of a data set by the hashes of ids."""

from types import SimpleNamespace

from vlpnb.data.limits import held_out, limit_images


def items(*names):
    return [SimpleNamespace(image_id=name, n=i) for i, name in enumerate(names)]


def test_a_limit_keeps_every_item_of_the_pictures_that_it_keeps():
    rows = items(*(f"picture {i % 20}" for i in range(60)))
    kept = limit_images(rows, 5)
    assert len({row.image_id for row in kept}) == 5
    assert len(kept) == 15
    assert [row.n for row in kept] == sorted(row.n for row in kept)
    assert limit_images(rows, None) == rows
    assert limit_images(rows, 100) == rows


def test_a_limit_does_not_depend_on_the_order_and_a_smaller_part_is_inside_a_larger():
    rows = items(*(f"picture {i}" for i in range(40)))
    few, more = ({r.image_id for r in limit_images(rows, n)} for n in (6, 12))
    assert {r.image_id for r in limit_images(reversed(rows), 6)} == few < more
    assert few != {f"picture {i}" for i in range(6)}


def test_about_the_asked_share_is_held_out():
    names = [f"name {i}" for i in range(4000)]
    for share in (0.1, 0.5):
        assert abs(sum(held_out(name, share) for name in names) / 4000 - share) < 0.03
    assert not any(held_out(name, 0) for name in names)
    assert all(held_out(name, 0.5) for name in names if held_out(name, 0.1))

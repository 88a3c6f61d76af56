"""The alignment of two tokenizations in words, to compare `vlpnb.text.alignment.align` with."""


def sweep(forward, backward) -> list[int]:
    """The alignment in words: for every span the overlapping one of greatest IoU, never going back."""
    at, chosen = 0, []
    for b0, b1 in backward:
        best, best_overlap = None, -1.0
        while True:
            f0, f1 = forward[at]
            shared = max(0, min(f1, b1) - max(f0, b0))
            overlap = shared / max((f1 - f0) + (b1 - b0) - shared, 1)
            if overlap > best_overlap:
                best, best_overlap = at, overlap
            if f1 >= b1 or at == len(forward) - 1:
                break
            at += 1
        chosen.append(best)
    return chosen

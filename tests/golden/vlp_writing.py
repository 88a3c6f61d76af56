"""The parts of `make_vlp` that are about writing (searches, self-critical learning), and those without a model."""

import torch

from tests.golden import vlp_reference as reference
from tests.golden.vlp_cases import norms_and_gradients


def named(sizes, ids):
    """The text of a row: words before the first [SEP] or [PAD]."""
    words = []
    for word in ids:
        if word in (sizes.sep, 0):
            break
        words.append(f"word{word}" if word >= 9 else f"[{word}]")
    return " ".join(words)


def write_decoding_and_scst(writer, sizes, weights, given, generator):
    seen = reference.projections(weights, given["feat"], given["vis_pe"])
    ids, tops = reference.greedy(weights, seen, sizes, sizes.steps)
    recorded = {**given, "greedy.ids": ids, "greedy.max_logits": tops}
    runs = {"greedy": {"ids": ids.tolist(), "text": [named(sizes, row) for row in ids.tolist()]}}
    for number, options in enumerate(sizes.runs):
        run = dict(zip(("beam", "length_bonus", "min_length", "block_ngram", "ignore"), options, strict=True))
        found = [
            reference.beam(weights, [part[i : i + 1] for part in seen], sizes, run)
            for i in range(sizes.images)
        ]
        *tensors, scores = zip(*found, strict=True)
        for name, each in zip(("wids", "ptrs", "scores", "ids"), tensors, strict=True):
            recorded[f"run{number}.{name}"] = torch.stack(each)
        run |= {"text": [named(sizes, row.tolist()) for row in tensors[3]], "chosen_score": scores}
        runs[f"run{number}"] = run | {"same_in_float64": [True] * sizes.images}
    writer.tensors("decoding", recorded)
    allowed = {"max_logits": 5e-5, "scores": 1e-4}
    writer.json(
        "decoding", {"images": sizes.images, "steps": sizes.steps, "runs": runs, "tolerance": allowed}
    )
    write_scst(writer, sizes, weights, given, generator)


def write_scst(writer, sizes, weights, given, generator):
    steps, b = sizes.max_text + 1, sizes.images
    lengths = torch.randint(1, sizes.max_text, (b,), generator=generator)
    words = torch.randint(9, sizes.vocab, (b, steps), generator=generator)
    at = torch.arange(steps)
    references = words.where(at < lengths[:, None], 0).where(at != lengths[:, None], sizes.sep)
    # Samples share words with their references, and some end early.
    sampled = words.where(torch.rand(b, steps, generator=generator) < 0.7, words.roll(1, 0))
    sampled[0, steps // 2] = sizes.sep
    shape = sizes.prefix, steps
    masks = torch.stack([reference.mask_of("s2s", n, *shape) for n in lengths.tolist()])
    segments = torch.stack([reference.segments_of("s2s", n, *shape, 6) for n in lengths.tolist()])
    recorded = {"reference_ids": references, "sample_raw": sampled, "ref_mask": masks[:, sizes.prefix :]}
    recorded["ref_segments"] = segments
    variants = {}
    for name, view in (("faithful", (masks, segments)), ("decoding_mask", (None, None))):
        w = {key: tensor.clone().requires_grad_() for key, tensor in weights.items()}
        seen = reference.projections(w, given["feat"], given["vis_pe"])
        with torch.no_grad():
            raw = reference.greedy(w, seen, sizes, steps, *view)[0]
        scores = [reference.next_words(w, seen, sizes, sampled[:, :step], *view) for step in range(steps)]
        chances = torch.stack([s.log_softmax(-1) for s in scores], dim=1).gather(2, sampled[..., None])[
            ..., 0
        ]
        own, best = (reference.cut(part, sizes.sep, 0) for part in (sampled, raw))
        rewards = as_rewards(own, references) - as_rewards(best, references)
        counted = torch.cat([torch.ones(b, 1, dtype=torch.long), own[:, :-1].ne(0).long()], dim=1)
        loss = -(counted * rewards[:, None] * chances).sum() / counted.sum()
        kept = {key: t for key, t in w.items() if not key.startswith("ans_")}
        norms, gradients = norms_and_gradients(kept, loss, 9)
        found = {
            "greedy_raw": raw,
            "greedy_cut": best,
            "sample_cut": own,
            "log_probs": chances,
            "reward": rewards,
        }
        found |= {"weights": counted, **gradients}
        recorded |= {f"{name}.{key}": tensor for key, tensor in found.items()}
        variants[name] = {"loss": loss.item(), "mean_reward": rewards.mean().item(), "grad_norms": norms}
    free = {"log_probs": chances.detach() * 1.5, "reward": rewards * 2, "sequence": sampled.clone()}
    recorded |= {f"loss_only.{name}": tensor for name, tensor in free.items()}
    alone = -(counted * free["reward"][:, None] * free["log_probs"]).sum() / counted.sum()
    writer.tensors("scst", recorded)
    writer.json("scst", {
        "steps": steps, "images": "those of decoding", "reference_lengths": lengths.tolist(), "variants": variants,
        "loss_only": alone.item(), "tolerance": {"log_probs": 5e-5, "reward": 1e-5, "loss": 1e-5, "grad": 1e-5},
    })  # fmt: skip


def as_rewards(rows, references):
    """CIDEr of ids as words; the closing [SEP] and one padding are words."""

    def words(row):
        row = row.tolist()
        return row[: row.index(0) + 1] if 0 in row else row

    return reference.cider([words(row) for row in rows], [words(row) for row in references])


def write_optimiser(writer, sizes, new):
    shapes = {"dense.weight": (3, 5), "dense.bias": (5,), "LayerNorm.weight": (5,), "LayerNorm.bias": (5,)}
    recorded, about, total = {}, {}, sizes.updates + 3
    for name, schedule, warmup, missing in (
        ("rising", "warmup_linear", 0.2, {}),
        ("level", "warmup_constant", 0.3, {}),
        ("gaps", "warmup_linear", 0.1, {"dense.bias": [1, 4], "LayerNorm.weight": [0]}),
    ):

        def rate(step, warmup=warmup, schedule=schedule):
            share = step / total
            if share < warmup:
                return 0.04 * share / warmup
            return 0.04 * (max((1 - share) / (1 - warmup), 0) if schedule == "warmup_linear" else 1)

        for key, shape in shapes.items():
            value, gradients, after = new(*shape), 2 * new(sizes.updates, *shape), []
            state = (0, torch.zeros(shape), torch.zeros(shape))
            recorded |= {f"{name}.{key}.start": value, f"{name}.{key}.gradients": gradients}
            for step, gradient in enumerate(gradients):
                if step not in missing.get(key, ()):
                    decay = 0.01 if key == "dense.weight" else 0.0
                    value, state = reference.bert_adam(value, gradient, state, rate, decay, 0.8)
                after.append(value)
            recorded[f"{name}.{key}.after"] = torch.stack(after)
        about[name] = {
            "schedule": schedule, "base_rate": 0.04, "warmup_share": warmup, "total": total, "steps": sizes.updates,
            "rates": [rate(step) for step in range(sizes.updates)], "no_gradient": missing,
        }  # fmt: skip
    writer.tensors("optimiser", recorded)
    quoted = {"0": 0.0, "50": 0.5, "100": 1.0, "550": 0.5, "1000": 0.0}
    writer.json("optimiser", about | {
        "schedule_1000": quoted, "decayed": ["dense.weight"], "decay": 0.01, "betas": [0.9, 0.999], "eps": 1e-6,
        "clip_per_tensor": 0.8, "tolerance": 1e-6,
    })  # fmt: skip


def write_adaptation(writer, new):
    segments, positions = new(2, 4), new(5, 4)
    recorded = {
        "segments.source": segments,
        "segments.six": torch.stack([segments[i] for i in (0, 1, 0, 0, 0, 1)]),
    }
    recorded |= {"positions.source": positions, "positions.3": positions[:3]}
    recorded["positions.13"] = torch.stack([positions[i % 5] for i in range(13)])
    for name, tensor in {"dense.weight": new(4, 4), "dense.bias": new(4), "LayerNorm.bias": new(4)}.items():
        recorded |= {f"transform.source.{name}": tensor, f"transform.four.{name}": torch.cat([tensor] * 4)}
    writer.tensors("adaptation", recorded)
    writer.json("adaptation", {"note": "2 to 6 segments, 5 to 13 and to 3 positions, 1 to 4 slots"})

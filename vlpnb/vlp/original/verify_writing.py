"""Writing with VLP held against recorded values: greedy choice, beams, self-critical learning; see `verify.py`."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vlpnb.data.agreement import Case
from vlpnb.data.recorded import Entries, RecordedFolder
from vlpnb.downstream.self_critical import counted, cut, policy_loss
from vlpnb.nn.beam import beam
from vlpnb.nn.decoding import greedy
from vlpnb.text.caption_table import text_of
from vlpnb.vlp.generating import VlpDecoder, log_probs_of
from vlpnb.vlp.heads import VlpForGeneration
from vlpnb.vlp.masks import segment_ids, sequence_mask
from vlpnb.vlp.model import VlpConfig
from vlpnb.vlp.original.recorded_model import gradient_cases, load, tolerances
from vlpnb.vlp.original.self_critical import batch_rewards, view_of_reference

FLOAT32 = 3e-7  # relative: a total with penalties of ten thousands has no more digits


class Words:
    """The vocabulary of a recorded model, as far as it is named: the last ids have words, the special ones names."""

    def __init__(self, words: Sequence[str], config: VlpConfig):
        self.names = dict(enumerate(words, start=config.vocab_size - len(words)))

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [self.names.get(word, f"[{word}]") for word in ids]


def decoding(folder: RecordedFolder) -> Iterator[Case]:
    """Greedy choice of all steps, and every beam search with its options: all words, pointers and totals."""
    recorded, about = folder.tensors("decoding.safetensors"), folder.json("decoding.json")
    sizes, model = folder.json("config.json"), load(folder, VlpForGeneration)
    words, config = Words(sizes["words"], model.config), model.config
    allowed = tolerances(about, scale=FLOAT32)
    features, geometry = recorded["feat"], recorded["vis_pe"]
    decoder = VlpDecoder(model, steps=about["steps"])
    yield about.case("images", len(features))
    with torch.no_grad():
        seen = decoder.see(features, geometry)
    for name, run in about["runs"].items():
        run.leave_out("same_in_float64", "trace_same_in_float64")  # how sure the reference is of itself
        if "beam" not in run:
            with torch.no_grad():
                found = greedy(decoder.step(seen), decoder.steps, config.sep_id, stop=False)
            yield recorded.case(f"{name}.ids", found.ids)
            yield recorded.case(f"{name}.max_logits", found.scores, allowed("max_logits"))
            yield run.case("ids", found.ids)
            ids = found.ids
        else:
            beams = beam(
                decoder.step(seen),
                run["beam"],
                decoder.steps,
                config.sep_id,
                length_bonus=run["length_bonus"],
                min_length=run["min_length"],
                no_repeat=run["block_ngram"] or 0,
                ignore=run["ignore"],
                stop_early=False,
                pad_id=config.pad_id,
            )
            yield recorded.case(f"{name}.ids", beams.ids)
            yield recorded.case(f"{name}.wids", beams.words)
            yield recorded.case(f"{name}.ptrs", beams.parents)
            yield recorded.case(f"{name}.scores", beams.totals, allowed("scores"))
            yield run.case("chosen_score", [texts[0].score for texts in beams.texts], allowed("scores"))
            ids = beams.ids
        texts = [text_of(words, row, config.sep_id, config.pad_id) for row in ids.tolist()]
        yield run.case("text", texts)


def scst(folder: RecordedFolder) -> Iterator[Case]:
    """Self-critical learning with the reference's mask and segments, as in the original, and with decoding's."""
    recorded, about = folder.tensors("scst.safetensors"), folder.json("scst.json")
    about.leave_out("images")  # says which pictures: those of `decoding`
    model = load(folder, VlpForGeneration)
    prefix, sep, pad = model.config.prefix, model.config.sep_id, model.config.pad_id
    references = recorded["reference_ids"].long()
    lengths = references.ne(pad).sum(1) - 1
    yield about.case("reference_lengths", lengths)
    most = recorded["ref_segments"].shape[1] - prefix
    shape = lengths, torch.ones_like(lengths, dtype=torch.bool), prefix, most
    yield recorded.case("ref_mask", sequence_mask(*shape)[:, 0, prefix:])
    yield recorded.case("ref_segments", segment_ids(*shape, model.config.segments))
    view = dict(zip(("mask", "segments"), view_of_reference(lengths, about["steps"]), strict=True))
    for name, run in about["variants"].items():
        ways = {"faithful": view, "decoding_mask": {}}[name]
        yield from _variant(folder, recorded, name, run, model, references, ways)
    allowed = tolerances(about)
    sequence = recorded["loss_only.sequence"].long()
    given = recorded["loss_only.log_probs"], recorded["loss_only.reward"]
    yield about.case("loss_only", _loss(*given, cut(sequence, sep, pad), pad), allowed("loss"))


def _loss(log_probs: Tensor, rewards: Tensor, ids: Tensor, pad: int) -> Tensor:
    """The original's: a mean over the words that count, one behind [SEP] among them (VLP-13)."""
    words = counted(ids, pad, past_end=True)
    return policy_loss(log_probs, rewards, words) / words.sum()


def _variant(
    folder: RecordedFolder,
    recorded: Entries,
    name: str,
    run: Entries,
    model: VlpForGeneration,
    references: Tensor,
    ways: dict[str, Tensor],
) -> Iterator[Case]:
    """One of the two ways to roll out."""
    about, config = folder.json("scst.json"), model.config
    allowed, sep, pad = tolerances(about), config.sep_id, config.pad_id
    pictures = folder.tensors("decoding.safetensors")
    decoder = VlpDecoder(model, steps=about["steps"])
    seen = decoder.see(pictures["feat"], pictures["vis_pe"])
    with torch.no_grad():
        raw = greedy(decoder.step(seen, **ways), decoder.steps, sep, stop=False).ids
    sampled = recorded["sample_raw"].long()
    greedy_cut, sample_cut = cut(raw, sep, pad), cut(sampled, sep, pad)
    log_probs = log_probs_of(model, seen, sampled, **ways)
    rewards = batch_rewards(sample_cut, greedy_cut, references, pad)
    yield recorded.case(f"{name}.greedy_raw", raw)
    yield recorded.case(f"{name}.greedy_cut", greedy_cut)
    yield recorded.case(f"{name}.sample_cut", sample_cut)
    yield recorded.case(f"{name}.log_probs", log_probs, allowed("log_probs"))
    yield recorded.case(f"{name}.reward", rewards, allowed("reward"))
    yield recorded.case(f"{name}.weights", counted(sample_cut, pad, past_end=True))
    yield run.case("mean_reward", rewards.mean(), allowed("reward"))
    loss = _loss(log_probs, rewards, sample_cut, pad)
    yield run.case("loss", loss, allowed("loss"))
    yield from gradient_cases(recorded, run["grad_norms"], model, loss, allowed("grad"), f"{name}.")


CHECKS: tuple = (decoding, scst)

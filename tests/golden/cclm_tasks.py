"""The part of `make_cclm` about tasks: entailment, pairs of pictures, answers, and re-ranked retrieval."""

import torch
from torch.nn import functional as F

from tests.golden import cclm_reference as reference
from tests.golden.cclm_losses import matched
from tests.golden.cclm_reference import BERT, MLM, Model
from tests.golden.make_cclm import COPIES, HEADS, pixels

STACK = BERT + "encoder.layer."
DECODER = "text_decoder.bert."


def stored(w, prefix):
    return {f"{prefix}.weights.{name}": tensor for name, tensor in w.items()}


def size(tensors):
    return sum(tensor.numel() for tensor in tensors)


def downstream(maker, w, given):
    model, s = Model(w, maker.sizes), maker.sizes
    backbone = {k: v for k, v in w.items() if not k.startswith((MLM, *HEADS, "temp"))}
    rows = torch.arange(s.batch)

    head = maker.head("cls_head", 3)
    fused = model.fuse(given.text, given.mask, given.view)
    scores, labels = reference.head(head, "cls_head", fused), maker.ids(0, 3, s.batch)
    maker.put(
        "downstream.safetensors", **stored(head, "xvnli"), **{"xvnli.logits": scores, "xvnli.labels": labels}
    )
    maker.put(
        "downstream.json",
        xvnli_loss=F.cross_entropy(scores, labels).item(),
        xvnli_label_ids={"contradiction": 0, "entailment": 1, "neutral": 2},
    )
    pairs(maker, w, given, backbone)
    assignment(maker, w, given, rows)
    answers(maker, w, given, backbone)


def twice(w, s):
    """The weights of a model for two pictures: every fusion layer there twice, with keys and values tied."""
    both = {k: v for k, v in w.items() if not k.startswith(STACK) or int(k.split(".")[4]) < s.text_layers}
    for i in range(s.fusion_layers):
        for copy in (0, 1):
            at, to = f"{STACK}{s.text_layers + i}.", f"{STACK}{s.text_layers + 2 * i + copy}."
            both |= {to + k.removeprefix(at): v for k, v in w.items() if k.startswith(at)}
    return both


def of_second(name, s):
    layer = int(name.split(".")[4]) if name.startswith(STACK) else -1
    return layer >= s.text_layers and (layer - s.text_layers) % 2 == 1


def tied(name, s):
    return of_second(name, s) and any(f"crossattention.self.{part}." in name for part in ("key", "value"))


def seen_both(w, s, x, mask, left, right):
    for i in range(2 * s.fusion_layers):
        memory = (left, right)[i % 2]
        x = reference.layer(
            w, f"{STACK}{s.text_layers + i}", x, s.heads, mask[:, None], memory, reference.everything(memory)
        )
    return x


def pairs(maker, w, given, backbone):
    s, both = maker.sizes, twice(w, maker.sizes)
    texts, left, right = (maker.ids(0, s.batch, 3) for _ in range(3))
    right = (left + 1 + right % (s.batch - 1)) % s.batch
    head, labels = maker.head("cls_head", 2), maker.ids(0, 2, 3)
    x, mask = given.text[texts], given.mask[texts]

    def scores(weights, one, other):
        return reference.head(
            head, "cls_head", seen_both(weights, s, x, mask, given.view[one], given.view[other])
        )

    second = {
        k: v * 1.05 if of_second(k, s) and not tied(k, s) else v
        for k, v in both.items()
    }  # fmt: skip
    first = scores(both, left, right)
    maker.put(
        "downstream.safetensors", **stored(head, "nlvr"),
        **{"nlvr.left": left, "nlvr.right": right, "nlvr.text_rows": texts, "nlvr.labels": labels,
           "nlvr.logits_from_pretraining": first,
            "nlvr.logits_from_pretraining_images_swapped": scores(both, right, left),
           "nlvr.logits_second_copies_times_1.05": scores(second, left, right)},
    )  # fmt: skip
    layers = [f"{STACK}{s.text_layers + i}.crossattention." for i in (0, 1)]
    plain = lambda name: name.replace(BERT, "text_encoder.")  # noqa: E731
    held = [k for k in twice(backbone, s) if not tied(k, s)]
    maker.put(
        "downstream.json", nlvr_loss_from_pretraining=F.cross_entropy(first, labels).item(),
        nlvr_state_keys_of_one_pair=[plain(k) for k in both if k.startswith(tuple(layers))],
        nlvr_tied_parameters=sorted(plain(k) for k in both if tied(k, s)),
        nlvr_parameters=size(both[k] for k in held) + size(head.values()),
    )  # fmt: skip


def assignment(maker, w, given, rows):
    s, both = maker.sizes, twice(w, maker.sizes)
    head = maker.linear("ta_head", 3, s.hidden)
    first, second = maker.ids(0, s.batch, s.batch), maker.ids(0, s.batch, s.batch)
    x = seen_both(both, s, given.text, given.mask, given.view[first], given.view[second])
    scores, labels = reference.linear(head, "ta_head", x[:, 0]), maker.ids(0, 3, s.batch)
    vectors = given.vectors[0]
    partners = (vectors @ vectors.T / 0.07).softmax(1).masked_fill(rows[:, None] == rows, 0.0)
    maker.put(
        "downstream.safetensors", **stored(head, "text_assignment"),
        **{"text_assignment.image0": first, "text_assignment.image1": second, "text_assignment.labels": labels,
           "text_assignment.logits": scores, "text_assignment.weights_of_partner_images": partners},
    )  # fmt: skip
    maker.put("downstream.json", text_assignment_loss=F.cross_entropy(scores, labels).item())


def answers(maker, w, given, backbone):
    s = maker.sizes
    dec = {k.replace("text_encoder.", "text_decoder."): v for k, v in w.items() if k.startswith((BERT, MLM))}
    for i in range(s.fusion_layers):  # the decoder's layers are the fusion layers
        at, to = f"{DECODER}encoder.layer.{s.text_layers + i}.", f"_{DECODER}encoder.layer.{i}."
        dec |= {to + k.removeprefix(at): v for k, v in list(dec.items()) if k.startswith(at)}
    dec = {k: v for k, v in dec.items() if not k.startswith(f"{DECODER}encoder.")}
    dec = {k.removeprefix("_"): v for k, v in dec.items()}
    decoder = Model(dec, s)
    ids, mask = maker.texts(s.answers, 5)
    ids[:, 1] = torch.arange(s.answers) % (s.vocab - 9) + 5  # all differ in their first piece
    states = Model(w, s).fuse(given.text, given.mask, given.view)

    def scores(written, rows):
        x = decoder.fuse(
            reference.embed(dec, written, DECODER),
            torch.ones_like(written).bool(),
            states[rows],
            given.mask[rows],
            f"{DECODER}encoder.layer.",
            0,
            True,
        )
        return decoder.words(
            x, "text_decoder.cls.predictions.", f"{DECODER}embeddings.word_embeddings.weight"
        )

    questions = torch.arange(s.batch)
    nll = torch.zeros(s.batch, s.answers, dtype=torch.float64)
    for a in range(s.answers):
        piece = ids[a][mask[a]]
        told = scores(piece.expand(s.batch, -1), questions).log_softmax(-1)
        nll[:, a] = -told[:, :-1].gather(2, piece[1:].expand(s.batch, -1)[..., None])[..., 0].sum(1)
    begun = scores(torch.zeros(s.batch, 1).long(), questions)[:, 0].softmax(-1)[:, ids[:, 1]]
    k = min(5, s.answers)
    likely = begun.sort(1, descending=True).indices[:, :k]
    double = (begun.log() - nll).gather(1, likely)
    order = double.sort(1, descending=True)
    once = (-nll).gather(1, likely).argmax(1)
    counts = 1 + torch.arange(s.batch) % 2
    said = maker.ids(0, s.answers, int(counts.sum()))
    of = questions.repeat_interleave(counts)
    weights = (1 / counts.double())[of]
    maker.put(
        "downstream.safetensors",
        **{"vqa.answer_ids": ids, "vqa.answer_mask": mask, "vqa.question_states": states, "vqa.answer_nll": nll,
           "vqa.first_piece_probability": begun, "vqa.topk_answers": likely.gather(1, order.indices),
           "vqa.topk_probabilities": order.values.softmax(1),
            "vqa.decoder_logits_answer_3": scores(ids[3].expand(s.batch, -1), questions),
           "vqa.train_answers": said, "vqa.train_answers_per_question": counts, "vqa.train_weights": weights},
    )  # fmt: skip
    names = [k for k in dec if ".layer." not in k] + [
        k.replace("text_encoder", "text_decoder") for k in COPIES
    ]
    maker.put(
        "downstream.json", vqa_k=k, vqa_decoder_layers=s.fusion_layers,
        vqa_loss=(weights * nll[of, said]).sum().item() / s.batch,
        vqa_argmax_faithful=likely.gather(1, order.indices)[:, 0].tolist(),
        vqa_argmax_nll_only=likely.gather(1, once[:, None])[:, 0].tolist(),
        vqa_decoder_keys_without_layers=[f"{DECODER}embeddings.position_ids", *names],
        vqa_parameters=size(backbone.values()) + size(dec.values()),
    )  # fmt: skip


def retrieval(maker, model, given):
    s = maker.sizes
    images = maker.pictures(s.gallery, 3, s.image, s.image)
    counts = 1 + torch.arange(s.gallery) % 2
    ids, mask = maker.texts(int(counts.sum()), s.length)
    views, states = model.pictures(pixels(images)), model.text(ids, mask)
    similar = model.image_vector(views) @ model.text_vector(states).T
    k, fill = min(5, s.gallery), -100.0
    found = {}
    for name, scores in (("captions_of_image", similar), ("images_of_caption", similar.T)):
        found[name] = scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
    to_texts, to_images = (torch.full_like(scores, fill) for scores in (similar, similar.T))
    for i, row in enumerate(found["captions_of_image"]):
        for c in row.tolist():
            to_texts[i, c] = match(model, views[i : i + 1], states[c : c + 1], mask[c : c + 1])
    for c, row in enumerate(found["images_of_caption"]):
        for i in row.tolist():
            to_images[c, i] = match(model, views[i : i + 1], states[c : c + 1], mask[c : c + 1])
    owner = torch.arange(s.gallery).repeat_interleave(counts)
    many = torch.arange(7).repeat_interleave(torch.tensor([1, 4, 2, 3, 1, 5, 2]))
    alone = maker.new(7, len(many)), maker.new(len(many), 7)
    names = torch.tensor([0, 1, *[0] * (s.batch - 2)])
    drawn = given.drawn["itm_image_ids"]
    maker.put(
        "retrieval.safetensors", gallery_image_u8=images, captions_per_image=counts, caption_ids=ids, caption_mask=mask,
        similarity=similar, score_image_to_text=to_texts, score_text_to_image=to_images,
        **{f"topk_{name}": rows for name, rows in found.items()},
        **{"recall.scores_image_to_text": alone[0], "recall.scores_text_to_image": alone[1],
            "recall.image_of_caption": many,
           "train.ids": names, "train.negative_image": drawn["view"], "train.negative_text": drawn["text"]},
    )  # fmt: skip
    image, text, _ = given.vectors
    maker.put(
        "retrieval.json", k=k, fill_for_not_scored=fill, reranked=reference.recalls(to_texts, to_images, owner),
        dual_encoder=reference.recalls(similar, similar.T, owner), recall_function=reference.recalls(*alone, many),
        train_itc=reference.contrast(image, text, model.w["temp"], names).item(),
        train_itm=matched(model, given.view, None, given.text, given.mask, drawn)[1].item(),
    )  # fmt: skip


def match(model, view, states, mask):
    """The raw score of "belong together"."""
    return reference.head(model.w, "itm_head", model.fuse(states, mask, view))[0, 1]

"""The tokenizer of a pre-training: the run's, a published one, or word pieces learned from what is trained on."""

from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerFast

from vlpnb.stage import StageContext
from vlpnb.text.tokenizers import MASKED, load_tokenizer, train_wordpiece
from vlpnb.train.distributed import barrier


def open_tokenizer(
    context: StageContext, own: str, lines: Iterable[str], needs: Sequence[str] = MASKED
) -> PreTrainedTokenizerFast:
    """The configured tokenizer; one of a training's own words is learned by process 0 and lies in `tokenizer`.

    Args:
        context: its configuration has `tokenizer` (empty: that of the stage `language`) and `vocab_size`.
        own: the value of `tokenizer` that asks for word pieces of one's own.
        lines: what these are learned from; read when they are asked for.
        needs: special tokens that it must have.
    """
    config = context.config
    if config.tokenizer != own:
        return load_tokenizer(config.tokenizer or context.inputs["language"] / "model", needs)
    folder = context.folder / "tokenizer"
    if context.rank == 0 and not (folder / "tokenizer.json").is_file():
        train_wordpiece(lines, config.vocab_size, folder)
    barrier(context.world_size)
    return load_tokenizer(folder, needs)

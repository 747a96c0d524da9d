"""What a language model writes behind many prompts, in batches of prompts of about the same length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mtl.config.schema import DecodingConfig
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gpt import Decoder
from mtl.decoder.layout import laid_out_for_writing
from mtl.decoder.writing import write


def texts_behind(
    decoder: Decoder,
    vocabulary: Vocabulary,
    prompts: Sequence[Sequence[int]],
    *,
    longest: int,
    stop_texts: Sequence[str],
    decoding: DecodingConfig,
    streams: Sequence[int] | None = None,
    seed: int = 0,
    batch_tokens: int = 8192,
    advance: Callable[[int], None] | None = None,
) -> list[str]:
    """The text behind each prompt, without blanks at both ends, up to a stop text or the end of the document.

    A text does not depend on the other prompts.

    :param prompts: Token ids, each with room for ``longest`` more in the context.
    :param longest: New tokens at most.
    :param decoding: How tokens are chosen; its stop texts are not read.
    :param streams: Name of each prompt's random stream; None for its position.
    :param batch_tokens: Tokens of a batch at most, the new ones among them.
    """
    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
    texts = [""] * len(prompts)
    banned = vocabulary.unwritten(decoder.vocabulary_size)
    begin = 0
    with laid_out_for_writing(decoder):
        while begin < len(order):
            length = len(prompts[order[begin]]) + longest
            rows = order[begin : begin + max(1, batch_tokens // length)]
            written = write(
                decoder,
                [prompts[row] for row in rows],
                decode=vocabulary.decode,
                max_new_tokens=longest,
                stop={vocabulary.end},
                stop_texts=stop_texts,
                banned=banned,
                temperature=decoding.temperature,
                top_k=decoding.top_k,
                top_p=decoding.top_p,
                seed=seed,
                streams=rows if streams is None else [streams[row] for row in rows],
            )
            for row, one in zip(rows, written, strict=True):
                texts[row] = one.text.strip()
            if advance is not None:
                advance(len(rows))
            begin += len(rows)
    return texts

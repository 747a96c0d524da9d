"""A language model to ask or to write with: of a finished run, or of a Hugging Face folder."""

from __future__ import annotations

from dataclasses import dataclass

from mtl.assembly import restore, written
from mtl.config.errors import UserError
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gpt import Decoder
from mtl.record.folder import RunFolder


@dataclass(frozen=True)
class LanguageModel:
    """A decoder and the vocabulary it reads."""

    name: str
    """How it is called in tables."""
    decoder: Decoder
    vocabulary: Vocabulary


def open_language_model(*, run: str | None, hf: str | None, checkpoint: str) -> LanguageModel:
    """The decoder of a run, or of a Hugging Face folder or hub name; exactly one of the two is given.

    The decoder of a folder keeps its own vocabulary: no embedding is added, so that its probabilities stay its own.

    :param checkpoint: ``best`` or ``last`` (runs only); a run without a best one has its last.
    :raises UserError: It cannot be found or read, has no single decoder, or its vocabulary and its decoder disagree.
    """
    if run is not None:
        return _of_run(run, checkpoint)
    assert hf is not None
    return _of_folder(hf)


def _of_run(run: str, checkpoint: str) -> LanguageModel:
    folder = RunFolder.open(run, where=f"run={run}")
    best = checkpoint == "best" and folder.best_checkpoint.is_file()
    _, strategy = restore(folder.path, folder.best_checkpoint if best else folder.last_checkpoint)
    if "" not in strategy.decoders():
        raise UserError(
            "that run has a decoder for each task, so there is no one decoder that reads and writes text",
            where=f"run={run}",
            hints=["name a run in which all tasks share a decoder"],
        )
    return LanguageModel(folder.path.name, strategy.decoder, strategy.vocabulary)


def _of_folder(hf: str) -> LanguageModel:
    from mtl.decoder.huggingface import load_pretrained, local_folder, pretrained_config

    where = f"hf={hf}"
    with written(where, hf):
        config = pretrained_config(hf)
        decoder, size = load_pretrained(config)
        vocabulary = Vocabulary.load(local_folder(hf))
    if vocabulary.end >= size:
        raise UserError(
            f"the decoder knows {size} tokens, and the end of a document (<|endoftext|>) is not among them",
            where=where,
            hints=["the tokenizer in the folder is not the one the decoder was trained with"],
        )
    if vocabulary.base_size > size:
        raise UserError(
            f"the decoder knows {size} tokens, the tokenizer {vocabulary.base_size}",
            where=where,
            hints=["the tokenizer in the folder is not the one the decoder was trained with"],
        )
    decoder.eval()
    return LanguageModel(config.name, decoder, vocabulary)

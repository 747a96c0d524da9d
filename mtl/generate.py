"""Continue prompts, or write documents from their beginning, with a finished run or a Hugging Face folder.

python -m mtl.generate run=RUN_DIR
python -m mtl.generate run=RUN_DIR prompt='Tom is cold.' samples=3 temperature=0.8
python -m mtl.generate hf=FOLDER prompt='It rained all day. TL;DR:' top_k=2 max_new_tokens=100
cat prompts.txt | python -m mtl.generate run=RUN_DIR file=- out=texts.jsonl
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl.config.command_line import command
from mtl.config.errors import UserError
from mtl.config.verb_schema import GenerateConfig

if TYPE_CHECKING:
    from mtl.opening import LanguageModel

DESCRIPTION = "Continue prompts, or write documents from their beginning, with a language model."


@dataclass(frozen=True)
class Prompt:
    """What is continued."""

    text: str | None
    """None: nothing, a document begins."""
    tokens: tuple[int, ...]
    """Ids that are read, the end token before them included."""
    cut: int = 0
    """Tokens at the beginning of the text that are not read."""


def run(overrides: Sequence[str], *, config_dir: str | None = None) -> list[dict[str, Any]]:
    """The command from Python: ``run(["run=RUN_DIR", "samples=3"])`` returns one object per continuation."""
    from mtl.config.compose import compose

    config = compose("generate", GenerateConfig, overrides, config_dir=config_dir)
    found = list(generate(config))
    if config.out is not None:
        _write(config.out, found)
    return found


def generate(config: GenerateConfig) -> Iterator[dict[str, Any]]:
    """Continuations as plain values, in the order of the prompts, and of the samples of each.

    A text does not depend on ``samples``, on ``batch`` or on the other prompts: each sample of each prompt has a
    random stream of its own.

    :raises UserError: a model that cannot be opened or has no single decoder, a bad file (file and row), an empty
        prompt, or a ``max_new_tokens`` that leaves no room for a prompt.
    """
    from mtl.decoder.layout import laid_out_for_writing
    from mtl.learning.precision import fastest
    from mtl.opening import open_language_model
    from mtl.record.progress import Progress

    if config.out is not None:
        from mtl.record.files import check_output

        check_output(Path(config.out), f"out={config.out}")
    for text in config.stop:
        if "\\n" in text:
            print(
                f"note: the stop text {text} holds a backslash and an n; a line end is written $'stop=[\"\\n\"]'",
                file=sys.stderr,
            )
    texts = list(_texts(config))
    with Progress() as progress:
        with progress.stage("loading the decoder"):
            model = open_language_model(run=config.run, hf=config.hf, checkpoint=config.checkpoint)
        prompts = [_prompt(number, text, model, config) for number, text in enumerate(texts, 1)]
        with progress.stage("writing") as reached:
            total = len(prompts) * config.samples
            precision = config.precision
            if precision == "auto":
                precision = fastest(model.decoder.device, model.decoder.width)
            with laid_out_for_writing(model.decoder, precision):
                for done, answer in enumerate(_answers(prompts, model, config), start=1):
                    yield answer
                    reached(f"{done} of {total}")


def _answers(
    prompts: Sequence[Prompt], model: LanguageModel, config: GenerateConfig
) -> Iterator[dict[str, Any]]:
    from mtl.data.vocabulary import END
    from mtl.decoder.writing import write

    vocabulary, decoder = model.vocabulary, model.decoder
    jobs = [(row, sample) for row in range(len(prompts)) for sample in range(config.samples)]
    for begin in range(0, len(jobs), config.batch):
        chunk = jobs[begin : begin + config.batch]
        written = write(
            decoder,
            [prompts[row].tokens for row, _ in chunk],
            decode=vocabulary.decode,
            max_new_tokens=config.max_new_tokens,
            stop={vocabulary.end},
            stop_texts=config.stop,
            banned=vocabulary.unwritten(decoder.vocabulary_size),
            # The first sample of a prompt has the stream of its row, the others lie where no row is.
            streams=[row + (sample << 32) for row, sample in chunk],
            temperature=config.temperature,
            top_k=config.top_k,
            top_p=config.top_p,
            seed=config.seed,
        )
        for (row, sample), answer in zip(chunk, written, strict=True):
            by = answer.stopped_by
            shown: dict[str, Any] = {
                "prompt": prompts[row].text,
                "sample": sample + 1,
                "text": answer.text,
                "tokens": len(answer.tokens),
                "stopped_by": by if by is None or isinstance(by, str) else END,
                "seed": config.seed,
            }
            cut = prompts[row].cut
            yield {**shown, "tokens_cut": cut} if cut else shown


def _texts(config: GenerateConfig) -> Iterator[str | None]:
    if config.file is None:
        yield config.prompt
        return
    from mtl.tasks.inputs import given_rows

    empty = True
    for where, given in given_rows(config.file, sys.stdin):
        empty = False
        yield _text(given, where)
    if empty:
        raise UserError("there is no prompt in it", where=f"file={config.file}")


def _text(given: Any, where: str) -> str:
    if not isinstance(given, str):
        if "prompt" not in given:
            raise UserError(
                "the column 'prompt' is missing", where=where, hints=[f"found: {', '.join(given)}"]
            )
        given = given["prompt"]
    if not isinstance(given, str):
        raise UserError(f"the prompt must be a text, found {given!r}", where=where)
    if not given:
        raise UserError(
            "the prompt is empty",
            where=where,
            hints=[
                "a document is written from its beginning where neither prompt nor file is given"
            ],
        )
    return given


def _prompt(number: int, text: str | None, model: LanguageModel, config: GenerateConfig) -> Prompt:
    """The prompt's last tokens, as many as leave room for the new ones; a cut is said on standard error."""
    vocabulary, context = model.vocabulary, model.decoder.context
    # Every text that a run was trained on begins behind an end token; others read a prompt as it is written.
    opening = (vocabulary.end,) if text is None or config.run is not None else ()
    tokens = () if text is None else tuple(vocabulary.encode(text))
    needed = len(opening) + (text is not None)
    room = context - config.max_new_tokens - len(opening)
    if room + len(opening) < needed:
        raise UserError(
            f"{config.max_new_tokens} new tokens leave no room for a prompt in the context of {context}",
            where=f"max_new_tokens={config.max_new_tokens}",
            hints=[f"right would be: max_new_tokens={context - needed} or less"],
        )
    cut = max(0, len(tokens) - room)
    if cut:
        print(
            f"prompt {number}: the first {cut} of {len(tokens)} tokens are beyond the context of {context} "
            f"({config.max_new_tokens} new ones included) and are not read",
            file=sys.stderr,
        )
    return Prompt(text, (*opening, *tokens[cut:]), cut)


def _write(out: str, found: Sequence[dict[str, Any]]) -> None:
    from mtl.record.files import to_json, write_atomically

    write_atomically(Path(out), "".join(f"{to_json(answer)}\n" for answer in found))


def _execute(config: GenerateConfig) -> None:
    if config.out is not None:
        found = list(generate(config))
        _write(config.out, found)
        print(f"{len(found)} continuations in {config.out}")
        return
    from mtl.record.texts import print_texts

    print_texts(generate(config), samples=config.samples)


def main() -> None:
    """The command line."""
    command("generate", GenerateConfig, _execute, describe=DESCRIPTION)


if __name__ == "__main__":
    main()

"""How a language model that was never taught a task is asked it: each task's protocol, for a whole split at once.

- Closed tasks: the likelihood of every candidate after the prompt; the protocol says which form of it decides.
- Open tasks: what the model writes, and, where a metric asks for it, the likelihood of the wanted answer.
- Documents: the likelihood of all of their tokens, in windows of the context.

Radford et al., "Language Models are Unsupervised Multitask Learners", section 3; "Improving Language Understanding by
Generative Pre-Training", section 5.
"""

from __future__ import annotations

import math
import statistics
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mtl.config.errors import UserError
from mtl.config.schema import DecodingConfig
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gpt import Decoder
from mtl.scoring.likelihood import Likelihood, Request, likelihoods
from mtl.scoring.metrics import METRICS, WindowPolicy
from mtl.scoring.pairs import encode_pair
from mtl.scoring.prompts import Prompted, Prompts, context_examples
from mtl.scoring.ranked import best_candidate
from mtl.scoring.sentences import first_sentences
from mtl.scoring.windows import windows
from mtl.scoring.written import texts_behind
from mtl.tasks.closed import score_values
from mtl.tasks.splits import subsample
from mtl.tasks.task import Answer, Example, Split, Task

Advance = Callable[[int], None]

THRESHOLD_ROWS = 1000
"""Training rows whose median is a threshold, at most."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What is the same for all tasks that a model is asked."""

    shots: int | None = None
    """Context examples before each row; None is what each task's protocol says."""
    window: WindowPolicy = "disjoint"
    """How documents longer than the context are cut."""
    start_token: bool = True
    """Whether the end-of-text token stands before each prompt."""
    seed: int = 0
    """Draws the context examples, and what is written where a protocol samples."""
    batch_tokens: int = 8192
    """Tokens scored at once; it changes no score beyond rounding."""


@dataclass(frozen=True)
class Asked:
    """What came of asking one task."""

    answers: list[Answer]
    """One for each example, in their order."""
    cut: list[int]
    """Tokens of each example's own prompt that lay beyond the context."""
    notes: list[str]
    """What a reader of the scores must know."""


def shots_of(task: Task, asking: Asking) -> int:
    """Context examples that stand before each row of a task."""
    return task.config.protocol.context_examples if asking.shots is None else asking.shots


def how_asked(task: Task, asking: Asking) -> dict[str, int | str]:
    """What the scores' reader must know of it: context examples, or the window of documents."""
    if task.kind == "language_modelling":
        return {"window": asking.window}
    return {"shots": shots_of(task, asking)}


def ask(
    decoder: Decoder,
    vocabulary: Vocabulary,
    task: Task,
    split: Split,
    asking: Asking,
    *,
    decode: bool = False,
    advance: Advance | None = None,
) -> Asked:
    """Ask a task of a language model.

    A row's answer does not depend on the other rows, but for rounding.

    :param decode: Closed tasks are also answered freely: greedily, up to a line break, the end of the document, or as
        many tokens as the row's longest candidate has; not where a text is given before each candidate.
    :raises UserError: A candidate leaves no room for its prompt, there are too few rows to show, or no training rows
        for a threshold.
    """
    asked = _Asking(decoder, vocabulary, task, asking, advance)
    if task.kind == "language_modelling":
        answers = asked.documents(split.examples)
    elif task.is_open:
        answers = asked.open(split)
    elif task.config.protocol.threshold is not None:
        answers = asked.by_threshold(split.examples)
    else:
        answers = asked.ranked(split.examples)
        if decode and not any(example.given for example in split.examples):
            answers = asked.freely(split.examples, answers)
    return Asked(answers, asked.cut or [0] * len(answers), asked.notes(len(answers)))


class _Asking:
    """One task asked of one model."""

    def __init__(
        self,
        decoder: Decoder,
        vocabulary: Vocabulary,
        task: Task,
        asking: Asking,
        advance: Advance | None,
    ):
        self.decoder, self.vocabulary, self.task, self.asking = decoder, vocabulary, task, asking
        self.protocol = task.config.protocol
        self.advance = advance
        self.shots = 0 if task.kind == "language_modelling" else shots_of(task, asking)
        self.prompts = Prompts(
            task,
            vocabulary,
            decoder.context,
            shown=context_examples(task, self.shots, seed=asking.seed),
            start_token=asking.start_token,
        )
        self.cut: list[int] = []
        self.left_out: Counter[int] = Counter()
        self.threshold: float | None = None

    def notes(self, rows: int) -> list[str]:
        """What a reader of the scores must know."""
        found = []
        if self.shots:
            found.append(
                f"few-shot: {self.shots} context examples of the train split before each row"
            )
        if self.task.kind == "language_modelling":
            windows_of = f"{self.asking.window} windows of at most {self.decoder.context} tokens"
            found.append(f"documents in {windows_of}")
        if self.threshold is not None:
            found.append(
                f"threshold {self.threshold:.4f} nats a token: the median of the training rows, labels unread"
            )
        for missing, count in sorted(self.left_out.items()):
            found.append(
                f"{count} of {rows} rows had room for {self.shots - missing} of {self.shots} context examples"
            )
        if any(self.cut):
            side = {"left": "first", "longest": "last"}[self.protocol.truncate]
            piece = "" if self.protocol.truncate == "left" else " of their longest piece"
            found.append(
                f"{sum(cut > 0 for cut in self.cut)} of {rows} rows lost {sum(self.cut)} tokens beyond the context of "
                f"{self.decoder.context}, the {side} ones{piece}"
            )
        return found

    def documents(self, examples: Sequence[Example]) -> list[Answer]:
        """Negative log-likelihood of each document and how many tokens were predicted: its own and its end, as in
        training."""
        end = self.vocabulary.end
        texts = [[*self.vocabulary.encode(example.references[0]), end] for example in examples]
        sums = self._nats(texts, self.asking.window)
        return [
            Answer(value=nats, tokens=(len(tokens),))
            for nats, tokens in zip(sums, texts, strict=True)
        ]

    def _nats(self, texts: Sequence[Sequence[int]], window: WindowPolicy) -> list[float]:
        """Negative log-likelihood of whole texts, each from the beginning of a document, in nats."""
        parts = [
            windows(tokens, self.vocabulary.end, self.decoder.context, window) for tokens in texts
        ]
        found = iter(self._likelihoods([request for part in parts for request in part]))
        return [math.fsum(next(found).nats for _ in part) for part in parts]

    def ranked(self, examples: Sequence[Example]) -> list[Answer]:
        """The likeliest candidate of each row, by the form of likelihood the protocol ranks by."""
        prompted = [self._counted(self.prompts.candidates(e, e.answers, e.given)) for e in examples]
        found = iter(self._likelihoods([request for row in prompted for request in row.requests]))
        unconditional = self._unconditional(examples)
        answers = []
        for example, row in zip(examples, prompted, strict=True):
            own = [next(found) for _ in row.requests]
            answer = Answer(
                value=0,
                scores=tuple(-one.nats for one in own),
                tokens=tuple(len(one.token_nats) for one in own),
                unconditional=tuple(unconditional[a] for a in example.answers if unconditional),
            )
            best = best_candidate(answer, example, self.protocol.rank_by)
            value: float | int = best
            if self.task.kind == "regression":
                value = float(score_values(self.task, len(own))[best])
            answers.append(replace(answer, value=value))
        return answers

    def _unconditional(self, examples: Sequence[Example]) -> dict[str, float]:
        """Log-probability of every candidate after the protocol's ``unconditional`` prompt; empty where it has none."""
        prompt = self.protocol.unconditional
        if prompt is None:
            return {}
        texts = list(dict.fromkeys(text for example in examples for text in example.answers))
        end = self.vocabulary.end
        requests = []
        for text in texts:
            context, tokens = encode_pair(self.vocabulary, prompt, text)
            begun = tuple(context) if context[:1] == [end] else (end, *context)
            requests.append(Request(begun, tuple(tokens)))
        return {
            text: -one.nats for text, one in zip(texts, self._likelihoods(requests), strict=True)
        }

    def by_threshold(self, examples: Sequence[Example]) -> list[Answer]:
        """Label 1 for prompts whose mean log-probability is above the median of the training rows."""
        train = self.task.train.examples if self.task.train is not None else ()
        if not train:
            raise UserError(
                f"task '{self.task.name}' has no training rows, whose median is its threshold",
                where=f"task.{self.task.name}.protocol.threshold",
            )
        share = min(1.0, THRESHOLD_ROWS / len(train))
        kept = subsample(train, share, task=self.task.name, seed=self.asking.seed)
        means = self._means([*(train[index] for index in kept), *examples])
        self.threshold = statistics.median(means[: len(kept)])
        return [
            Answer(value=int(mean > self.threshold), scores=(self.threshold, mean))
            for mean in means[len(kept) :]
        ]

    def _means(self, examples: Sequence[Example]) -> list[float]:
        """Mean log-probability of a token of each row's prompt, in nats."""
        texts = [self.vocabulary.encode(self.prompts.before(example)) for example in examples]
        sums = self._nats(texts, "disjoint")
        return [-nats / len(tokens) for nats, tokens in zip(sums, texts, strict=True)]

    def open(self, split: Split) -> list[Answer]:
        """What is written to each row, the likelihood of its first reference, or both, as its metrics need."""
        needed = {METRICS[name].of_target for name in self.task.config.metrics}
        answers = [Answer(value="") for _ in split.examples]
        if False in needed:
            answers = [Answer(value=text) for text in self._written(split)]
        if True in needed:
            self.cut = []  # the same prompts once more
            found = self._targets(split.examples)
            answers = [
                replace(answer, target_nats=one.nats, target_greedy=one.greedy)
                for answer, one in zip(answers, found, strict=True)
            ]
        return answers

    def _targets(self, examples: Sequence[Example]) -> list[Likelihood]:
        requests = []
        for example in examples:
            texts = [f" {example.references[0]}"]
            (request,) = self._counted(self.prompts.candidates(example, texts, ())).requests
            if self.protocol.target_tokens == "last":
                context = (*request.context, *request.continuation[:-1])
                request = Request(context, request.continuation[-1:])
            requests.append(request)
        banned = stop_word_tokens(self.vocabulary) if self.protocol.without_stop_words else ()
        return self._likelihoods(requests, banned)

    def _written(self, split: Split) -> list[str]:
        decoding, longest = self.protocol.decoding, self.task.config.max_answer_tokens
        prompts = []
        for example in split.examples:
            prompt, cut, left_out = self.prompts.open(example, longest)
            self._count(cut, left_out)
            prompts.append(prompt)
        # By the row's name, so that it draws the same words whatever other rows there are.
        streams = [zlib.crc32(example.row.encode()) for example in split.examples]
        texts = self._write(prompts, longest, decoding.stop, streams)
        if decoding.sentences is None:
            return texts
        return [first_sentences(text, decoding.sentences) for text in texts]

    def freely(self, examples: Sequence[Example], answers: Sequence[Answer]) -> list[Answer]:
        """The same answers, each with what is written where no candidate is offered."""
        by_length: dict[int, list[int]] = {}
        for row, answer in enumerate(answers):
            by_length.setdefault(max(answer.tokens), []).append(row)
        texts: dict[int, str] = {}
        for longest, rows in sorted(by_length.items()):
            # What was cut is counted already, where the candidates were offered.
            prompts = [self.prompts.open(examples[row], longest)[0] for row in rows]
            written = self._write(prompts, longest, ["\n"])
            texts.update(zip(rows, written, strict=True))
        return [replace(answer, decoded=texts[row]) for row, answer in enumerate(answers)]

    def _write(
        self,
        prompts: Sequence[Sequence[int]],
        longest: int,
        stop_texts: Sequence[str],
        streams: Sequence[int] | None = None,
    ) -> list[str]:
        """At most ``longest`` new tokens of each prompt as text: drawn as the protocol says, or greedily."""
        return texts_behind(
            self.decoder,
            self.vocabulary,
            prompts,
            longest=longest,
            stop_texts=stop_texts,
            decoding=self.protocol.decoding if streams else DecodingConfig(),
            streams=streams,
            seed=self.asking.seed,
            batch_tokens=self.asking.batch_tokens,
            advance=self.advance,
        )

    def _likelihoods(
        self, requests: Sequence[Request], banned: Sequence[int] = ()
    ) -> list[Likelihood]:
        return likelihoods(
            self.decoder,
            requests,
            batch_tokens=self.asking.batch_tokens,
            banned=banned,
            advance=self.advance,
        )

    def _counted(self, prompted: Prompted) -> Prompted:
        self._count(prompted.cut, prompted.left_out)
        return prompted

    def _count(self, cut: int, left_out: int) -> None:
        self.cut.append(cut)
        if left_out:
            self.left_out[left_out] += 1


def stop_word_tokens(vocabulary: Vocabulary) -> tuple[int, ...]:
    """Ids of the tokens that are a stop word by themselves.

    The words are scikit-learn's English list: GPT-2 (section 3.3) does not say which it took.
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    texts = ((index, vocabulary.decode([index])) for index in range(vocabulary.base_size))
    return tuple(index for index, text in texts if text.strip().lower() in ENGLISH_STOP_WORDS)

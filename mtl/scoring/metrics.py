"""The closed list of metrics.

A metric turns the answers of one task into one number. Its value comes from a maintained library; its
bootstrap interval from :mod:`mtl.scoring.statistics`. Everything but the metrics of language modelling is a share or a
correlation on one scale where 1 is perfect; BLEU and ROUGE are therefore in 0..1, not 0..100.

Language modelling: the negative log-likelihood of all documents over the units of their source, whatever a model's
tokens are (GPT-2, section 3.1). The number depends on how much a token sees of what stands before it, so that its
reported name also says how a document was divided into windows (:data:`WindowPolicy`).

Where a metric is undefined it is defined, without a warning: a correlation (matthews, pearson, spearman) with a
constant side is 0, and the F1 of a class that is neither answered nor wanted is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mtl.config.errors import UserError, raise_all, unknown_name
from mtl.config.schema import TaskConfig
from mtl.scoring import statistics, text, values
from mtl.tasks.task import Answer, Example

Array = NDArray[np.float64]

WindowPolicy = Literal["disjoint", "strided"]
"""How a document that is longer than the context is scored. ``disjoint``: in windows that share no predicted token,
each begun with one token of context. ``strided``: in windows that overlap, so that a token sees more of what stands
before."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric. N is rows, S what the metric needs to know of a row, R resamples."""

    name: str
    kinds: tuple[str, ...]
    """Kinds of task it is admissible for."""
    range: tuple[float, float]
    """Lowest and highest possible value."""
    higher_is_better: bool = True
    of_target: bool = False
    """Whether it looks at the likelihood of the wanted answer, not at what was answered."""
    prepare: Callable[[Sequence[Answer], Sequence[Example]], Array]
    """Answers and examples to rows (N, S)."""
    library_value: Callable[[Array], float]
    """Rows (N, S) to the metric's value."""
    resampled: Callable[[Array, Array], Array]
    """Rows (N, S) and weights (R, N) to a value per resample (R,)."""
    windowed: bool = False
    """Whether the value depends on how documents are divided into windows."""
    has_chance: bool = True
    """Whether guessing has a value on its scale; without one it cannot enter the average."""

    @property
    def perfect(self) -> float:
        """Value of answers that are all right."""
        return self.range[1] if self.higher_is_better else self.range[0]

    def reported_name(self, windows: WindowPolicy) -> str:
        """The name under which a value is reported: ``bits_per_byte_disjoint``, but ``accuracy``."""
        return f"{self.name}_{windows}" if self.windowed else self.name

    def value(self, answers: Sequence[Answer], examples: Sequence[Example]) -> float:
        """The metric of these answers.

        :raises ValueError: There are no rows, not one answer per example, or an answer outside its space.
        """
        return self.library_value(self.rows(answers, examples))

    def rows(self, answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
        """What the metric needs to know of each row, (N, S)."""
        if len(answers) != len(examples):
            raise ValueError(f"{len(answers)} answers to {len(examples)} examples")
        if not examples:
            raise ValueError(f"{self.name} of no rows")
        return self.prepare(answers, examples)


def metric(name: str) -> Metric:
    """The metric of that name.

    :raises UserError: There is none.
    """
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    return METRICS[name]


def admissible(config: TaskConfig) -> list[str]:
    """Names of the metrics a task may declare."""
    return [name for name, known in METRICS.items() if _refusal(known, config) is None]


def check_metrics(config: TaskConfig) -> None:
    """Refuse a task whose metrics are unknown, repeated or not meant for its kind.

    :raises UserError: All such mistakes of the task in one message.
    """
    where = f"task '{config.name}': metrics"
    options = admissible(config)
    hint = f"available for {config.kind}: {', '.join(options)}"
    errors = []
    if not config.metrics:
        errors.append(UserError("a task needs at least one metric", where=where, hints=[hint]))
    for position, name in enumerate(config.metrics):
        if name not in METRICS:
            errors.append(unknown_name("metric", name, options, where=where))
        elif (reason := _refusal(METRICS[name], config)) is not None:
            errors.append(UserError(reason, where=where, hints=[hint]))
        elif name in config.metrics[:position]:
            errors.append(UserError(f"metric '{name}' stands there twice", where=where))
        elif position == 0 and not METRICS[name].has_chance:
            reason = "guessing has no value on its scale, which the average needs"
            first = [option for option in options if METRICS[option].has_chance]
            errors.append(
                UserError(
                    f"metric '{name}' cannot be the primary one: {reason}",
                    where=where,
                    hints=[f"the first metric is the primary one; put first: {', '.join(first)}"],
                )
            )
    raise_all(errors)


def _refusal(known: Metric, config: TaskConfig) -> str | None:
    if config.kind not in known.kinds:
        return f"metric '{known.name}' is not defined for a task of kind {config.kind}"
    if known.name == "f1" and len(config.labels) != 2:
        return f"metric 'f1' needs two labels, found {len(config.labels)}"
    if known.of_target and config.source.train is not None:
        return (
            f"metric '{known.name}' is of a language model that is only asked, and task "
            f"'{config.name}' has a train split (source.train)"
        )
    return None


_CLASSIFICATION = ("classification", "pair_classification")
_SHARE = (0.0, 1.0)
_CORRELATION = (-1.0, 1.0)


def _text_metric(
    name: str, prepare: Callable[[Sequence[Answer], Sequence[Example]], Array]
) -> Metric:
    return Metric(
        name=name,
        kinds=("generation",),
        range=_SHARE,
        prepare=prepare,
        library_value=values.mean,
        resampled=statistics.mean,
    )


def _perplexity(
    name: str, prepare: Callable[[Sequence[Answer], Sequence[Example]], Array]
) -> Metric:
    return Metric(
        name=name,
        kinds=("language_modelling",),
        range=(1.0, math.inf),
        higher_is_better=False,
        prepare=prepare,
        library_value=values.perplexity,
        resampled=statistics.perplexity,
        windowed=True,
        has_chance=False,
    )


METRICS: dict[str, Metric] = {
    known.name: known
    for known in (
        Metric(
            name="accuracy",
            kinds=(*_CLASSIFICATION, "multiple_choice", "ranking"),
            range=_SHARE,
            prepare=values.classes,
            library_value=values.accuracy,
            resampled=statistics.accuracy,
        ),
        Metric(
            name="matthews",
            kinds=_CLASSIFICATION,
            range=_CORRELATION,
            prepare=values.classes,
            library_value=values.matthews,
            resampled=statistics.matthews,
        ),
        # The positive class is always label index 1, as in GLUE's MRPC and QQP (1 = equivalent, duplicate).
        Metric(
            name="f1",
            kinds=_CLASSIFICATION,
            range=_SHARE,
            prepare=values.classes,
            library_value=values.f1,
            resampled=statistics.f1,
        ),
        Metric(
            name="macro_f1",
            kinds=_CLASSIFICATION,
            range=_SHARE,
            prepare=values.classes,
            library_value=values.macro_f1,
            resampled=statistics.macro_f1,
        ),
        Metric(
            name="pearson",
            kinds=("regression",),
            range=_CORRELATION,
            prepare=values.scores,
            library_value=values.pearson,
            resampled=statistics.pearson,
        ),
        Metric(
            name="spearman",
            kinds=("regression",),
            range=_CORRELATION,
            prepare=values.scores,
            library_value=values.spearman,
            resampled=statistics.spearman,
        ),
        _text_metric("exact_match", text.best_of_references(text.exact_match)),
        _text_metric("token_f1", text.best_of_references(text.token_f1)),
        Metric(
            name="bleu",
            kinds=("generation",),
            range=_SHARE,
            prepare=text.bleu_statistics,
            library_value=values.bleu,
            resampled=statistics.bleu,
        ),
        _text_metric("rouge_1", text.rouge("rouge1")),
        _text_metric("rouge_2", text.rouge("rouge2")),
        _text_metric("rouge_l", text.rouge("rougeL")),
        # Of what a language model would have written: asked of tasks that nothing is trained on (see ``_refusal``).
        Metric(
            name="greedy_accuracy",
            kinds=("generation",),
            range=_SHARE,
            of_target=True,
            prepare=values.target_greedy,
            library_value=values.mean,
            resampled=statistics.mean,
        ),
        Metric(
            name="perplexity_per_answer",
            kinds=("generation",),
            range=(1.0, math.inf),
            higher_is_better=False,
            of_target=True,
            prepare=values.target_nats,
            library_value=values.perplexity,
            resampled=statistics.perplexity,
            has_chance=False,
        ),
        Metric(
            name="bits_per_byte",
            kinds=("language_modelling",),
            range=(0.0, math.inf),
            higher_is_better=False,
            prepare=values.nats_and_bytes,
            library_value=values.bits_per_byte,
            resampled=statistics.bits_per_byte,
            windowed=True,
        ),
        _perplexity("perplexity_per_word", values.nats_and_words),
        _perplexity("perplexity_per_token", values.nats_and_tokens),
    )
}
"""Every metric by its name, in the order in which help lists them."""

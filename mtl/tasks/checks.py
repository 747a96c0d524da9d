"""What a task file must say for its kind, checked before any row is read."""

from __future__ import annotations

from mtl.config.errors import UserError, raise_all
from mtl.config.schema import ProtocolConfig, SourceConfig, TaskConfig

CLASSIFICATION = ("classification", "pair_classification")


def check_task(config: TaskConfig) -> None:
    """Refuse a task file that contradicts itself.

    :raises UserError: All contradictions in one message.
    """
    problems = [
        *_source(config.source),
        *_reading(config),
        *_answer_space(config),
        *_protocol(config),
    ]
    raise_all(
        [UserError(problem, where=f"task.{config.name}.{field}") for field, problem in problems]
    )


Problems = list[tuple[str, str]]


def _source(source: SourceConfig) -> Problems:
    problems: Problems = []
    if source.folder is None and source.hub is None and source.microworld is None:
        problems.append(("source", "one of folder, hub or microworld is needed"))
    named = {"train": source.train, "validation": source.validation, "report": source.report}
    for first, second in (("train", "report"), ("validation", "report"), ("train", "validation")):
        if named[first] is not None and named[first] == named[second]:
            reason = "no split has two purposes: what selects or trains is never reported"
            problems.append((f"source.{first}", f"the same split as {second}; {reason}"))
    if source.train is None and source.validation is not None:
        problems.append(("source.validation", "a task without a train split has nothing to select"))
    return problems


def _reading(config: TaskConfig) -> Problems:
    problems: Problems = []
    if config.kind == "language_modelling":
        if config.segments or config.prompt:
            problems.append(
                ("prompt", "a document has neither segments nor a prompt, only a target")
            )
        return problems
    if config.source.documents != "rows":
        problems.append(("source.documents", f"only for language_modelling, not for {config.kind}"))
    if config.detokeniser != "none":
        problems.append(("detokeniser", f"only for language_modelling, not for {config.kind}"))
    if not config.segments:
        problems.append(("segments", "at least one segment is needed"))
    if config.kind == "pair_classification" and len(config.segments) != 2:
        problems.append(("segments", f"a pair has 2 segments, found {len(config.segments)}"))
    if not config.prompt:
        problems.append(("prompt", "at least one piece is needed"))
    elif config.prompt[-1] != config.prompt[-1].rstrip():
        problems.append(
            ("prompt", "it ends with a blank; the answer begins with one, so leave it out")
        )
    if config.symmetric and len(config.segments) != 2:
        problems.append(("symmetric", f"it is said of 2 segments, found {len(config.segments)}"))
    for index in config.identifying:
        if not 0 <= index < len(config.segments):
            problems.append(("identifying", f"there is no segment {index}; the first one is 0"))
    return problems


def _answer_space(config: TaskConfig) -> Problems:
    problems: Problems = []
    if config.kind in CLASSIFICATION:
        problems += _classes(config)
    elif config.kind == "regression":
        if len(config.range) != 2 or not config.range[0] < config.range[1]:
            problems.append(("range", f"expected [lowest, highest], found {config.range}"))
    elif config.kind == "multiple_choice" and not config.choices:
        problems.append(
            ("choices", "templates of the candidates, or a column with a list, are needed")
        )
    elif config.kind == "ranking":
        problems += _ranking(config)
    allowed = {
        "labels": (*CLASSIFICATION, "ranking"),
        "answers": CLASSIFICATION,
        "range": ("regression",),
        "choices": ("multiple_choice", "ranking"),
        "query": ("ranking",),
        "references": ("generation",),
        "symmetric": (*CLASSIFICATION, "regression"),
    }
    for field, kinds in allowed.items():
        if getattr(config, field) and config.kind not in kinds:
            problems.append((field, f"only for {' or '.join(kinds)}, not for {config.kind}"))
    return problems


def _ranking(config: TaskConfig) -> Problems:
    problems: Problems = []
    if not config.query:
        problem = f"task '{config.name}' ranks the candidates of a query, and names no query"
        problems.append(("query", problem))
    if isinstance(config.choices, str) or len(config.choices) != 1:
        problem = "a ranking has a list of one template, of the candidate that a row brings"
        problems.append(("choices", f"{problem}; found {config.choices!r}"))
    if len(set(config.labels)) != 2 or len(config.labels) != 2:
        problem = "the label of a right candidate and that of a wrong one are needed"
        problems.append(("labels", f"{problem}, found {config.labels}"))
    return problems


def _protocol(config: TaskConfig) -> Problems:
    """How a language model is asked: each setting where it means something."""
    protocol, plain = config.protocol, ProtocolConfig()
    problems: Problems = []
    closed = (*CLASSIFICATION, "regression", "multiple_choice", "ranking")
    allowed = {
        "rank_by": closed,
        "unconditional": closed,
        "given": ("multiple_choice",),
        "threshold": CLASSIFICATION,
        "target_tokens": ("generation",),
        "without_stop_words": ("generation",),
        "context_examples": (*closed, "generation"),
        "truncate": (*closed, "generation"),
        "decoding": ("generation",),
    }
    for field, kinds in allowed.items():
        if getattr(protocol, field) != getattr(plain, field) and config.kind not in kinds:
            problem = f"only for {' or '.join(kinds)}, not for {config.kind}"
            problems.append((f"protocol.{field}", problem))
    if protocol.rank_by == "mutual_information" and protocol.unconditional is None:
        problems.append(("protocol.unconditional", "needed to rank by mutual_information"))
    if protocol.threshold is not None and len(config.labels) != 2:
        problems.append(("protocol.threshold", f"tells 2 labels apart, found {len(config.labels)}"))
    if protocol.context_examples < 0:
        problems.append(("protocol.context_examples", "0 or more are needed"))
    if protocol.context_examples and config.source.train is None:
        problem = "context examples are training rows, and source.train is null"
        problems.append(("protocol.context_examples", problem))
    for name, wording in config.prompts.items():
        if wording.prompt and wording.prompt[-1] != wording.prompt[-1].rstrip():
            problem = "it ends with a blank; the answer begins with one, so leave it out"
            problems.append((f"prompts.{name}", problem))
    if not all(protocol.decoding.stop):
        problems.append(("protocol.decoding.stop", "an empty text ends every answer at once"))
    return problems


def _classes(config: TaskConfig) -> Problems:
    problems: Problems = []
    if len(config.labels) < 2:
        problems.append(("labels", f"at least 2 classes are needed, found {len(config.labels)}"))
    if len(config.answers) != len(config.labels):
        counts = f"{len(config.labels)} labels, {len(config.answers)} answers"
        problems.append(("answers", f"one label word per class is needed: {counts}"))
    for field, names in (("labels", config.labels), ("answers", config.answers)):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            problems.append((field, f"stands twice: {', '.join(map(repr, twice))}"))
    for answer in config.answers:
        if not answer.startswith(" ") or not answer.strip():
            problems.append(("answers", f"a label word begins with a space, found {answer!r}"))
    return problems

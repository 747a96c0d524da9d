"""What running text can be told: where it comes from, how it is cleaned, and which duplicates are removed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mtl.config.task_schema import SourceConfig


@dataclass(frozen=True, kw_only=True)
class C4Config:
    """Rules of C4 on lines and documents (Raffel et al. 2020, section 2.2); false or null switches one off."""

    terminal_punctuation: bool = True
    """Drop lines that do not end in a full stop, an exclamation mark, a question mark or a quotation mark, or that end
    in an ellipsis. For text whose lines are paragraphs, as on the web: in wrapped text few lines end a sentence."""
    min_words_per_line: int | None = 3
    """Drop lines of fewer words."""
    max_word_length: int | None = 1000
    """Drop lines with a word of more characters."""
    javascript: bool = True
    """Drop lines that mention javascript."""
    policy: bool = True
    """Drop lines about cookies, terms of use and privacy policies."""
    citations: bool = True
    """Remove marks such as [3], [edit] and [citation needed]."""
    lorem_ipsum: bool = True
    """Drop documents that say lorem ipsum."""
    curly_bracket: bool = True
    """Drop documents with a curly bracket: they are code."""
    min_sentences: int | None = 5
    """Drop documents of fewer sentences."""


@dataclass(frozen=True, kw_only=True)
class GopherQualityConfig:
    """Quality rules of MassiveText (Rae et al. 2021, section A.1.1) on documents; null switches one off."""

    min_words: int | None = 50
    """Fewest words."""
    max_words: int | None = 100_000
    """Most words."""
    min_mean_word_length: float | None = 3.0
    """Smallest mean length of a word in characters."""
    max_mean_word_length: float | None = 10.0
    """Largest mean length of a word in characters."""
    max_symbols: float | None = 0.1
    """Most hash signs, and most ellipses, per word."""
    max_bullet_lines: float | None = 0.9
    """Largest share of lines that begin with a bullet."""
    max_ellipsis_lines: float | None = 0.3
    """Largest share of lines that end in an ellipsis."""
    min_alphabetic_words: float | None = 0.8
    """Smallest share of words with a letter in them."""
    min_stop_words: int | None = 2
    """Fewest different words among the, be, to, of, and, that, have, with."""


@dataclass(frozen=True, kw_only=True)
class GopherRepetitionConfig:
    """Repetition rules of MassiveText (Rae et al. 2021, table A1): largest shares; null switches one off."""

    duplicate_lines: float | None = 0.30
    """Of lines that repeat an earlier one."""
    duplicate_paragraphs: float | None = 0.30
    """Of paragraphs that repeat an earlier one."""
    duplicate_line_characters: float | None = 0.20
    """Of characters in repeated lines."""
    duplicate_paragraph_characters: float | None = 0.20
    """Of characters in repeated paragraphs."""
    top_2gram: float | None = 0.20
    """Of characters in the most frequent pair of words."""
    top_3gram: float | None = 0.18
    """Of characters in the most frequent 3 words."""
    top_4gram: float | None = 0.16
    """Of characters in the most frequent 4 words."""
    duplicate_5gram: float | None = 0.15
    """Of characters in repeated runs of 5 words."""
    duplicate_6gram: float | None = 0.14
    """Of characters in repeated runs of 6 words."""
    duplicate_7gram: float | None = 0.13
    """Of characters in repeated runs of 7 words."""
    duplicate_8gram: float | None = 0.12
    """Of characters in repeated runs of 8 words."""
    duplicate_9gram: float | None = 0.11
    """Of characters in repeated runs of 9 words."""
    duplicate_10gram: float | None = 0.10
    """Of characters in repeated runs of 10 words."""


@dataclass(frozen=True, kw_only=True)
class CleaningConfig:
    """Which families of rules a document must pass, in this order; null is none."""

    c4: C4Config | None = None
    """Rules of C4."""
    gopher_quality: GopherQualityConfig | None = None
    """Quality rules of MassiveText."""
    gopher_repetition: GopherRepetitionConfig | None = None
    """Repetition rules of MassiveText."""


@dataclass(frozen=True, kw_only=True)
class DeduplicationConfig:
    """Which repeated documents are removed; the first one stays."""

    exact: bool = False
    """Remove documents that equal an earlier one, byte for byte, once cleaned."""
    near: bool = False
    """Remove documents nearly equal to an earlier one that stays."""
    ngram: int = 5
    """Words of a shingle; a document is near another where they share most of their shingles."""
    threshold: float = 0.8
    """Jaccard similarity of the sets of shingles from which on two documents are nearly equal."""
    bands: int = 14
    """Candidates agree in all MinHash values of at least one of so many bands."""
    rows: int = 8
    """MinHash values of a band: a pair of similarity s is found with probability 1 - (1 - s^rows)^bands."""


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """Running text for language modelling."""

    name: str
    """Name of the corpus."""
    kind: Literal["microworld", "tasks", "source", "files"]
    """``microworld``: generated text; ``tasks``: training inputs of the chosen tasks without their labels;
    ``source``: documents of a dataset; ``files``: documents of any files."""
    source: SourceConfig | None = None
    """Where the documents come from (``source`` only)."""
    files: list[str] = field(default_factory=list)
    """Files or patterns such as books/*.jsonl.zst, below data.root or absolute: .txt, .jsonl, either of them .gz or
    .zst, and .parquet (``files`` only)."""
    text: str = "{{ text }}"
    """Template of a document (``source`` and ``files`` only)."""
    text_files: Literal["file", "lines", "articles", "blocks"] = "file"
    """What is a document in a .txt file: the whole of it, each line, or lines joined as in a source's ``documents``
    (``files`` only)."""
    url: str | None = None
    """Column with the address of a document (``source`` and ``files`` only)."""
    exclude_domains: list[str] = field(default_factory=list)
    """Drop documents from these domains and those below them (``source`` and ``files`` only)."""
    clean: CleaningConfig = field(default_factory=CleaningConfig)
    """What a document to train on must be like."""
    deduplicate: DeduplicationConfig = field(default_factory=DeduplicationConfig)
    """Which repeated documents are not trained on."""
    held_out: float = 0.05
    """Share of the documents that are not trained on: half of them select, half are reported (``files`` only)."""
    documents: int | None = None
    """At most this many documents."""
    demonstrations: float = 0.1
    """Share of documents that contain natural demonstrations of the tasks (``microworld`` only)."""
    permuted: bool = False
    """Permute the answers inside the demonstrations: the control (``microworld`` only)."""

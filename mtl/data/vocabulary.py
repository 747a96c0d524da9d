"""The vocabulary: text to token ids and back, and the special tokens that no text can produce.

Text is read by byte-level byte-pair encoding (GPT-2 section 2.2): pieces are cut by character category, then
bytes are merged, so that every text has an encoding and decoding gives it back exactly. Special tokens stand
after the ids of the text. They are never read out of a text: ``<|end`` written by a person stays what it is,
seven characters.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from mtl.config.errors import UserError
from mtl.storage import cache

START, DELIMITER, EXTRACT, END = "<|start|>", "<|delimiter|>", "<|extract|>", "<|endoftext|>"
SPECIAL = (START, DELIMITER, EXTRACT, END)
BYTES = 256
REMEMBERED = 1 << 25
"""Characters of the texts whose encoding is remembered at most."""


class Vocabulary:
    """Byte-pair encoding and special tokens. Immutable but for a memory of encoded texts.

    Made by :meth:`train` or :meth:`load`, extended by :meth:`with_special`.
    """

    def __init__(self, tokenizer: Tokenizer, *, base_size: int, special: Mapping[str, int]):
        self._tokenizer = tokenizer
        self._special = dict(special)
        self._special_ids = frozenset(self._special.values())
        self._remembered: dict[str, list[int]] = {}
        self._remembered_characters = 0
        self.base_size = base_size
        """Ids of the tokenizer itself; special tokens that it lacks follow after them."""

    @property
    def size(self) -> int:
        """All ids, special tokens included."""
        return max(self.base_size, *(i + 1 for i in self._special_ids))

    @property
    def start(self) -> int:
        """Id of ``<|start|>``, which opens every sequence."""
        return self._special[START]

    @property
    def delimiter(self) -> int:
        """Id of ``<|delimiter|>``, which stands between segments."""
        return self._special[DELIMITER]

    @property
    def extract(self) -> int:
        """Id of ``<|extract|>``, whose hidden state a head reads (GPT-1 section 3.3)."""
        return self._special[EXTRACT]

    @property
    def end(self) -> int:
        """Id of ``<|endoftext|>``, which closes a text."""
        return self._special[END]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Content hash (sha256, 16 hexadecimal digits): equal where all encodings and ids are equal."""
        content = json.dumps([self._tokenizer.to_str(), self.base_size, self._special])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``, without special tokens.

        :raises UserError: Where the text holds half a surrogate pair, which no encoding can carry.
        """
        if (known := self._remembered.get(text)) is not None:
            return list(known)
        try:
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
        except TypeError as error:
            raise _not_text(text) from error
        ids: list[int] = encoding.ids
        return ids

    def prefetch(self, texts: Iterable[str]) -> None:
        """Encode many texts at once, so that :meth:`encode` finds them ready."""
        new = list(dict.fromkeys(text for text in texts if text not in self._remembered))
        characters = sum(map(len, new))
        if self._remembered_characters + characters > REMEMBERED:
            self._remembered, self._remembered_characters = {}, 0
        try:
            encodings = self._tokenizer.encode_batch_fast(new, add_special_tokens=False)
        except TypeError:
            return  # encode() meets the text again, where the row is known
        self._remembered_characters += characters
        self._remembered.update(zip(new, (encoding.ids for encoding in encodings), strict=True))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids``. Special tokens are left out; bytes that are not UTF-8 read as U+FFFD.

        :raises IndexError: For an id outside the vocabulary.
        """
        chosen = [int(i) for i in ids]
        if chosen and not 0 <= min(chosen) <= max(chosen) < self.size:
            raise IndexError(f"Ids should be from 0 to {self.size - 1}. Found {chosen}.")
        text: str = self._tokenizer.decode(
            [i for i in chosen if i not in self._special_ids], skip_special_tokens=True
        )
        return text

    @property
    def base(self) -> Vocabulary:
        """This vocabulary without the special tokens that a strategy added."""
        own = {token: self._special[token] for token in SPECIAL}
        return Vocabulary(self._tokenizer, base_size=self.base_size, special=own)

    @property
    def added(self) -> dict[str, int]:
        """Ids of the special tokens that a strategy added, by token."""
        return {token: i for token, i in self._special.items() if token not in SPECIAL}

    def special(self, token: str) -> int:
        """Id of a special token.

        :raises KeyError: Where the vocabulary has no such special token.
        """
        return self._special[token]

    def unwritten(self, size: int, spared: Collection[int] = ()) -> list[int]:
        """Ids below ``size`` that no text contains: a strategy's special tokens, and what a decoder has beyond them.

        The end token, which closes a text, is not among them.

        :param size: Ids that a decoder knows.
        :param spared: Further ids to leave out.
        """
        return [i for i in range(self.base_size, size) if i != self.end and i not in spared]

    def with_special(self, tokens: Sequence[str]) -> Vocabulary:
        """A vocabulary that has these special tokens too, in order after all others.

        One that exists already keeps its id.
        """
        return _extended(self._tokenizer, self.base_size, self._special, tokens)

    def reads_like(self, other: Vocabulary) -> bool:
        """Whether text has the same tokens and ids in both; special tokens aside."""
        one, two = (vocabulary._tokenizer.get_vocab() for vocabulary in (self, other))
        special = {*self._special, *other._special}
        return {k: i for k, i in one.items() if k not in special} == {
            k: i for k, i in two.items() if k not in special
        }

    def token_of(self, number: int) -> str | None:
        """The special token with that id, None for an id of text."""
        return next((token for token, i in self._special.items() if i == number), None)

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        beginning: int | None = None,
        context: int | None = None,
    ) -> None:
        """Write a Hugging Face tokenizer folder: ``tokenizer.json`` and ``tokenizer_config.json``.

        transformers reads text with it as we do, special tokens written in a text included
        (``split_special_tokens``). As for GPT-2, the end token also pads.

        :param beginning: Special token that sequences begin with, which transformers calls ``bos_token``; None for
            ``<|start|>``.
        :param context: Longest sequence in tokens; None leaves it open.
        """
        whole = Tokenizer.from_str(self._tokenizer.to_str())
        for token, number in sorted(self._special.items(), key=lambda item: item[1]):
            whole.add_special_tokens([AddedToken(token, special=True, normalized=False)])
            assert whole.token_to_id(token) == number, f"{token} was to have id {number}"
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        whole.save(str(path / "tokenizer.json"))
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": START if beginning is None else self.token_of(beginning),
            "eos_token": END,
            "pad_token": END,
            "padding_side": "left",  # a decoder goes on from the right end of a row
            "split_special_tokens": True,
            "clean_up_tokenization_spaces": False,
            "base_size": self.base_size,
            **({} if context is None else {"model_max_length": context}),
        }
        (path / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")

    @staticmethod
    def is_in(folder: str | os.PathLike[str]) -> bool:
        """Whether a folder holds a tokenizer."""
        path = Path(folder)
        pair = (path / "vocab.json").is_file() and (path / "merges.txt").is_file()
        return pair or (path / "tokenizer.json").is_file()

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Vocabulary:
        """Read a Hugging Face tokenizer folder, or one with GPT-2's ``vocab.json`` and ``merges.txt``.

        Special tokens that the folder lacks are added after its own; one that it has keeps its id.

        :raises UserError: Where the folder holds no tokenizer that can be read.
        """
        path = Path(folder).expanduser()
        try:
            if (path / "tokenizer.json").is_file():
                return _load_json(path)
            if (path / "vocab.json").is_file() and (path / "merges.txt").is_file():
                return _load_pair(path)
        except UserError:
            raise
        except Exception as error:  # the library raises bare Exception for what it cannot read
            raise UserError(f"the tokenizer cannot be read: {error}", where=str(path)) from error
        raise UserError(
            "no tokenizer found" if path.is_dir() else "no such tokenizer folder",
            where=str(path),
            hints=["a tokenizer folder holds tokenizer.json, or vocab.json and merges.txt"],
        )

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        size: int,
        *,
        root: str | os.PathLike[str] | None = None,
    ) -> Vocabulary:
        """Learn a byte-level vocabulary of at most ``size`` ids (special tokens aside) from ``texts``.

        The same texts and size give the same ids. The result is cached by content.

        :param size: At least 256, one id for each byte. A text with few repetitions yields fewer ids.
        :param root: The cache folder, see :func:`mtl.storage.cache.cache_root`.
        """
        if size < BYTES:
            raise UserError(
                f"a byte-level vocabulary needs at least {BYTES} tokens",
                where=f"tokenizer.vocabulary={size}",
            )
        texts = list(texts)
        if not any(texts):
            raise UserError("a vocabulary cannot be trained without any text")
        content = cache.content_key("byte_bpe", size, tokenizers.__version__, *texts)

        def make(folder: Path) -> None:
            tokenizer = _byte_level(models.BPE())
            trainer = trainers.BpeTrainer(
                vocab_size=size,
                min_frequency=2,  # a merge seen once would only memorise the text
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                special_tokens=[],
                show_progress=False,
            )
            tokenizer.train_from_iterator(texts, trainer)
            tokenizer.save(str(folder / "tokenizer.json"))

        return cls.load(cache.build(f"vocabulary-{content}", make, root))


def _byte_level(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _extended(
    tokenizer: Tokenizer, base_size: int, special: Mapping[str, int], tokens: Iterable[str]
) -> Vocabulary:
    known = dict(special)
    free = max([base_size, *(i + 1 for i in known.values())])
    for token in tokens:
        if token not in known:
            known[token] = free
            free += 1
    return Vocabulary(tokenizer, base_size=base_size, special=known)


def _load_pair(path: Path) -> Vocabulary:
    vocabulary = json.loads((path / "vocab.json").read_text(encoding="utf-8"))
    missing = [byte for byte in pre_tokenizers.ByteLevel.alphabet() if byte not in vocabulary]
    if missing:
        raise UserError(
            f"the tokenizer is not byte-level: {len(missing)} of {BYTES} bytes have no token",
            where=str(path / "vocab.json"),
        )
    model = models.BPE.from_file(str(path / "vocab.json"), str(path / "merges.txt"))
    own = {token: vocabulary[token] for token in SPECIAL if token in vocabulary}
    return _extended(_byte_level(model), max(vocabulary.values()) + 1, own, SPECIAL)


def _load_json(path: Path) -> Vocabulary:
    content = json.loads((path / "tokenizer.json").read_text(encoding="utf-8"))
    config_file = path / "tokenizer_config.json"
    config = json.loads(config_file.read_text(encoding="utf-8")) if config_file.is_file() else {}
    whole = Tokenizer.from_str(json.dumps(content))
    ids = whole.get_vocab(with_added_tokens=True)
    own = whole.get_vocab(with_added_tokens=False)
    base_size = config.get("base_size", max(ids.values()) + 1)
    # What stands after the base ids was added by save(): kept out of the tokenizer, texts must not hold it.
    later = {token: i for token, i in ids.items() if i >= base_size}
    content["added_tokens"] = [
        token | {"special": token["special"] or token["content"] in SPECIAL}
        for token in content["added_tokens"]
        if token["content"] not in later
        and not (token["content"] in SPECIAL and token["content"] in own)
    ]
    content["post_processor"] = None  # it adds special tokens, which are never ours
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # that is: read them in a text as any other text
    known = {token: i for token, i in ids.items() if token in SPECIAL or token in later}
    known = dict(sorted(known.items(), key=lambda item: item[1]))
    return _extended(tokenizer, base_size, known, SPECIAL)


def _not_text(text: str) -> UserError:
    character = next((c for c in text if "\ud800" <= c <= "\udfff"), None)
    if character is None:
        raise TypeError(f"`text` should be a string. Found {text!r}.")
    shown = text.encode("ascii", "backslashreplace").decode()[:60]
    return UserError(
        f"the text holds half a surrogate pair (U+{ord(character):04X}), which is no character",
        where=f"text that begins {shown!r}",
    )

"""A whole corpus: what is planted is found, the account adds up, and whoever is killed goes on to the same result."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.config.errors import UserError
from mtl.config.schema import (
    C4Config,
    CleaningConfig,
    DeduplicationConfig,
    GopherQualityConfig,
    GopherRepetitionConfig,
)
from mtl.corpora import shards
from mtl.corpora.account import Account
from mtl.corpora.building import Recipe, StoredCorpus, build_corpus
from mtl.corpora.cleaning import clean
from mtl.corpora.reading import Document
from mtl.corpora.shards import Group

from .prose import COOKIES, MENU, SCRIPT, boilerplate, document, edited

CLEAN = CleaningConfig(
    c4=C4Config(), gopher_quality=GopherQualityConfig(), gopher_repetition=GopherRepetitionConfig()
)
WEB = Recipe(CLEAN, DeduplicationConfig(exact=True, near=True), ("wikipedia.org",))


def group(texts: list[str], fingerprint: str = "texts") -> Group:
    def documents() -> Iterator[Document]:
        for number, text in enumerate(texts, start=1):
            yield Document(f"a:{number}", text, "http://example.org")

    return Group(fingerprint, documents, sum(map(len, texts)))


def test_planted_rubbish_goes_and_prose_stays(tmp_path: Path) -> None:
    prose = {f"prose {seed}": document(1000 + seed) for seed in range(120)}
    pages = {
        f"page {seed}": "\n".join([MENU, document(seed), COOKIES, SCRIPT]) for seed in range(40)
    }
    kinds = {
        f"{kind} {seed}": text
        for seed in range(8)
        for kind, text in boilerplate(5000 + seed * 10).items()
    }
    exact = {f"exact {seed}": document(1000 + seed) for seed in range(30)}
    near = {f"near {seed}": edited(document(1000 + seed), 1 + seed % 2) for seed in range(30, 60)}
    unlike = {f"unlike {seed}": edited(document(1000 + seed), 16) for seed in range(60, 80)}
    names = [*prose, *pages, *kinds, *exact, *near, *unlike]
    texts = [
        *prose.values(),
        *pages.values(),
        *kinds.values(),
        *exact.values(),
        *near.values(),
        *unlike.values(),
    ]
    corpus = build_corpus([group(texts)], WEB, name="planted", root=str(tmp_path))
    kept = {names[int(corpus.row(index).split(":")[1]) - 1] for index in range(len(corpus.texts))}
    wanted = {*prose, *pages, *unlike}
    assert wanted <= kept  # recall of prose 1: no good document is lost
    rubbish = {*kinds, *exact, *near}
    assert len(rubbish & kept) <= 0.02 * len(rubbish), (
        rubbish & kept
    )  # 148 planted; recall at least 0.98
    assert set(corpus.texts) >= {
        document(seed) for seed in range(40)
    }  # pages without what stood around them
    removed = {rule: removal.documents for rule, removal, _ in corpus.account.rows()}
    assert removed["duplicate: exact"] == 30
    assert 29 <= removed["duplicate: near"] <= 30
    lines = {rule: removal.lines for rule, removal, _ in corpus.account.rows() if removal.lines}
    assert lines["c4: lines that mention javascript"] == 40
    assert lines["c4: lines about policies"] == 40
    assert lines["c4: lines that end no sentence"] >= 40 * 5


PART = st.one_of(
    st.integers(0, 30).map(lambda seed: document(seed, 9)),
    st.sampled_from([MENU, COOKIES, "", "\r\n \n", "See [1] it.", "\u2028\u00e9\ufffd", "a\x0cb \x07", "# # #"]),
)  # fmt: skip


@settings(max_examples=60)
@given(
    st.lists(st.lists(PART, max_size=4).map("\n".join), min_size=1, max_size=8),
    st.booleans(),
    st.booleans(),
)
def test_the_account_adds_up_to_the_byte(texts: list[str], c4: bool, gopher: bool) -> None:
    rules = CleaningConfig(
        c4=CLEAN.c4 if c4 else None,
        gopher_quality=CLEAN.gopher_quality if gopher else None,
        gopher_repetition=CLEAN.gopher_repetition if gopher else None,
    )
    account, parts, left = Account(), [Account(), Account()], []
    for number, text in enumerate(texts):
        one = Document(f"a:{number}", text, "en.wikipedia.org" if number % 5 == 4 else None)
        left.append(clean(one, rules, ("wikipedia.org",), account))
        clean(one, rules, ("wikipedia.org",), parts[number % 2])
    kept = [text for text in left if text is not None]
    assert account.kept_documents == len(kept)
    assert account.kept_bytes == sum(len(text.encode()) for text in kept)
    assert (account.documents, account.bytes) == (len(texts), sum(len(t.encode()) for t in texts))
    assert Account.from_plain(json.loads(json.dumps(account.plain()))) == account
    parts[0].add(parts[1])
    assert parts[0].kept_bytes == account.kept_bytes
    if not c4:
        assert set(kept) <= set(texts)  # without C4 a document is kept as it is or not at all


def test_nothing_left_says_what_took_it(tmp_path: Path) -> None:
    texts = ["too short", "", "also short"]
    with pytest.raises(UserError) as caught:
        build_corpus([group(texts)], WEB, name="small", root=str(tmp_path))
    assert str(caught.value) == (
        "no document of corpus 'small' is left: 3 read, all removed (corpus=small)\n"
        "  1 removed by empty, such as a:2: ''\n"
        "  2 removed by c4: too few sentences, such as a:1: 'too short'\n"
        "  a rule is switched off by null, such as corpus.clean.c4=null"
    )
    assert not list(tmp_path.glob("corpus-*"))


def test_order_settings_and_content_decide_the_corpus(tmp_path: Path) -> None:
    texts = [document(seed) for seed in range(12)]
    plain = Recipe(CleaningConfig(), DeduplicationConfig())

    def built(texts: list[str], recipe: Recipe = plain, root: Path = tmp_path) -> StoredCorpus:
        return build_corpus([group(texts, "".join(texts))], recipe, name="a", root=str(root))

    one = built(texts)
    assert list(one.texts) == texts
    assert built(texts).folder == one.folder
    assert built(texts, root=tmp_path / "other").fingerprint == one.fingerprint
    assert built(texts[::-1]).fingerprint != one.fingerprint
    assert (
        built(texts, WEB).fingerprint == one.fingerprint
    )  # nothing of it is removed: the same documents
    assert built(texts, WEB).folder != one.folder


TEXTS = [edited(document(seed % 40), seed // 40) for seed in range(60)] + [document(3), MENU]

BUILDER = """
import json, os, signal, sys
from pathlib import Path
folder, stage, most = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.path.insert(0, {tests!r})
import importlib
test = importlib.import_module("tests.unit.corpora.test_building")
done = 0
def tell(now, more, total):
    global done
    if now == stage:
        done += more
        if done >= most:
            os.kill(os.getpid(), signal.SIGKILL)
if stage == "joining":
    from mtl.storage.texts import StoredTexts
    raw = StoredTexts.raw
    calls = []
    def counted(self, index):
        calls.append(sys._getframe(1).f_code.co_name)
        if calls.count("texts") > most:
            os.kill(os.getpid(), signal.SIGKILL)
        return raw(self, index)
    StoredTexts.raw = counted
corpus = test.built(folder, tell)
print(corpus.fingerprint, flush=True)
"""


def built(folder: str, tell=lambda stage, more, total: None) -> StoredCorpus:
    groups = [group(TEXTS[:30], "first"), group(TEXTS[30:], "second")]
    return build_corpus(groups, WEB, name="a", root=folder, tell=tell, shard_bytes=16_000)


def builder(root: Path, folder: Path, stage: str = "", most: int = 0) -> subprocess.Popen[str]:
    program = BUILDER.format(tests=str(root))
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "PYTHONHASHSEED": str(random.randint(1, 99)),
    }
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder), stage, str(most)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_killed_anywhere_it_goes_on_to_the_same_corpus(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = built(str(tmp_path / "whole"))
    folder = tmp_path / "killed"
    seen: dict[Path, int] = {}
    kills = [
        ("cleaning", 25_000),
        ("cleaning", 90_000),
        ("signing", 40_000),
        ("comparing", 0),
        ("joining", 20),
    ]
    for stage, most in kills:
        with builder(root, folder, stage, most) as process:
            assert process.wait() == -signal.SIGKILL
        entries = {
            path: path.stat().st_mtime_ns for path in folder.iterdir() if path.name[0] != "."
        }
        assert not any(path.name.startswith("corpus-") for path in entries)
        assert entries.items() >= seen.items()  # what was finished was not done again
        assert len(entries) > len(seen) or stage in ("comparing", "joining")
        seen = entries

    cleaned = []
    monkeypatch.setattr(shards, "clean", lambda *given: cleaned.append(given))
    monkeypatch.setattr(shards, "Signer", None)
    last = built(str(folder))  # every shard and every signature is there
    assert cleaned == []
    assert content(last.folder) == content(whole.folder)
    assert last.account.removed["duplicate: near"].documents >= 18
    assert last.account.removed["duplicate: exact"].documents == 1


def test_two_processes_at_once_build_one_corpus(root: Path, tmp_path: Path) -> None:
    with builder(root, tmp_path) as one, builder(root, tmp_path) as two:
        said = {process.communicate(timeout=120)[0] for process in (one, two)}
    assert said == {built(str(tmp_path)).fingerprint + "\n"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert len(list(tmp_path.glob("corpus-*"))) == 1

"""De-tokenisers: texts as people write them, which give their source back, whatever the source is."""

from __future__ import annotations

import gzip
import re
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.config.errors import UserError
from mtl.config.schema import DataConfig
from mtl.tasks.checks import check_task
from mtl.tasks.detokenisers import DETOKENISERS
from mtl.tasks.documents import join_lines
from mtl.tasks.loading import load_task
from mtl.tasks.templates import Template

from .conftest import read_task_file, reviews

PLAIN = {
    "wikitext": [
        (" \n = Valkyria Chronicles = \n \n", "\n= Valkyria Chronicles =\n\n"),
        (
            " He is 1 @.@ 78 m ( 5 ft ) tall , and well @-@ known . \n",
            "He is 1.78 m (5 ft) tall, and well-known.\n",
        ),
        (
            ' The 10 @,@ 000 " <unk> " : " red " ; [ sic ] ! \n',
            'The 10,000 "<unk>": "red"; [sic]!\n',
        ),
        (" It 's his dogs ' and Tom 's \n", "It's his dogs' and Tom's\n"),
        (" I don 't pay $ 2 @.@ 5 , or 5 % at 10 : 30 \n", "I don't pay $2.5, or 5% at 10:30\n"),
        (" the U.S. and Mr. A. ; in the U.S . \n", "the U.S. and Mr. A.; in the U.S .\n"),
        (" 5 \u2013 6 km / h \n", "5\u20136 km/h\n"),
    ],
    "ptb": [
        (
            " mr. <unk> did n't pay $ N to <unk> & co. 's dogs \n",
            "mr. <unk> didn't pay $N to <unk> & co.'s dogs\n",
        ),
        (
            " they ca n't or can not take c$ N or us$ N \n",
            "they can't or cannot take c$N or us$N\n",
        ),
        (" viewers ' 1\\/2-year \\* they 're $ a \n", "viewers' 1/2-year * they're $ a\n"),
    ],
}
"""Sources, and what is read."""
FILES = {"wikitext": ["wikitext2/validation"], "ptb": ["ptb/train", "ptb/validation"]}
ODD = [
    "\\",
    "\\ ",
    " ",
    "",
    "\n",
    "@-@",
    "@,@",
    "-",
    "a-b",
    "1,000",
    "don't",
    "cannot",
    "'s",
    "''s",
    '"',
    "U.S.",
    "(",
    "$5",
    "a/b",
]
COMMON = [*"abN5,.:;!'$#%", "n't", "can", "not", "@.@"]
NAMES = list(DETOKENISERS)


@cache
def whole(file: Path) -> str:
    return gzip.decompress(file.read_bytes()).decode("utf-8")


@cache
def kinds_of(file: Path) -> list[str]:
    return sorted(set(whole(file).split()))


@pytest.mark.parametrize(
    ("name", "source", "read"), [(n, *pair) for n in NAMES for pair in PLAIN[n]]
)
def test_reads_as_people_write(name: str, source: str, read: str) -> None:
    assert DETOKENISERS[name].detokenise(source) == read
    assert DETOKENISERS[name].tokenise(read) == source


@pytest.mark.parametrize("name", NAMES)
@given(text=st.text(st.sampled_from("ab5 .,-'\"\\@$%()/\nN:s<")) | st.text())
def test_every_text_comes_back(name: str, text: str) -> None:
    both = DETOKENISERS[name]
    assert both.tokenise(both.detokenise(text)) == text


@pytest.mark.parametrize("name", NAMES)
@given(tokens=st.lists(st.sampled_from([*ODD, *COMMON])))
def test_every_order_of_tokens_comes_back(name: str, tokens: list[str]) -> None:
    both = DETOKENISERS[name]
    for text in (" ".join(tokens), f" {' '.join(tokens)} \n", "".join(tokens)):
        assert both.tokenise(both.detokenise(text)) == text


@pytest.mark.parametrize(("name", "file"), [(name, file) for name in NAMES for file in FILES[name]])
def test_whole_files_come_back_and_few_artefacts_stay(
    name: str, file: str, data_root: Path
) -> None:
    source = whole(data_root / f"{file}.txt.gz")
    both = DETOKENISERS[name]
    read = both.detokenise(source)
    assert both.tokenise(read) == source
    artefact = re.compile(r"(?<= )([][,.;:!?()\"'%$\u00a3/]|n't|'[a-z]+|@.@|\\\S+)(?= )")
    before, after = (len(artefact.findall(text)) for text in (source, read))
    assert after < 0.01 * before
    assert len(read) < 0.99 * len(source)


@pytest.mark.parametrize(("name", "file"), [(name, file) for name in NAMES for file in FILES[name]])
@given(data=st.data())
def test_drawn_tokens_of_the_files_come_back(
    name: str, file: str, data_root: Path, data: st.DataObject
) -> None:
    kinds = st.sampled_from(kinds_of(data_root / f"{file}.txt.gz"))
    tokens = data.draw(st.lists(kinds, min_size=1, max_size=30))
    text = f" {' '.join(tokens)} \n"
    assert DETOKENISERS[name].tokenise(DETOKENISERS[name].detokenise(text)) == text


@pytest.mark.parametrize("task", ["wikitext2_detokenised", "ptb_detokenised"])
def test_a_task_keeps_the_source_of_its_documents(task: str, data_root: Path) -> None:
    config = read_task_file(task)
    folder = config.source.folder
    assert folder is not None
    examples = load_task(config, DataConfig(root=str(data_root)), seed=0).report.examples
    source = whole(data_root / folder / "validation.txt.gz")
    assert "".join(example.original for example in examples) == source
    lines = source.removesuffix("\n").split("\n")
    how = config.source.documents
    assert how != "rows"
    assert [example.original for example in examples] == join_lines(lines, how)
    both = DETOKENISERS[config.detokeniser]
    for example in examples:
        assert both.tokenise(example.references[0]) == example.original


def test_only_a_document_has_a_detokeniser() -> None:
    with pytest.raises(UserError) as caught:
        check_task(reviews(detokeniser="ptb"))
    assert str(caught.value) == (
        "only for language_modelling, not for classification (task.reviews.detokeniser)"
    )


@pytest.mark.parametrize(
    ("template", "row", "expected"),
    [
        ("{{ text | detokenise_ptb }}", "she did n't", "she didn't"),
        ("{{ text | detokenise_wikitext }}", "5 @-@ 6 , or so .", "5-6, or so."),
        ("{{ text | straighten_quotes }}", "\u201cyes,\u201d he said", '"yes," he said'),
    ],
)
def test_as_a_filter(template: str, row: str, expected: str) -> None:
    assert Template(template, field="t")({"text": row}) == expected

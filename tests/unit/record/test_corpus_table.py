"""The account as it is printed: every number of it, within the width, and what the numbers do not say."""

from __future__ import annotations

import io

from mtl.corpora.account import Account
from mtl.record.corpus_table import PLAIN_WIDTH, print_account, remarks
from mtl.record.progress import portion_line


def account() -> Account:
    made = Account(documents=40, bytes=10_000)
    made.document("duplicate: near", "b.txt:7", "A near [copy].", 500)
    made.document("c4: too few sentences", "a.txt:1", "One\n  two " * 40, 1000)
    made.lines("c4: lines that end no sentence", 30, 3999)
    made.document("gopher repetition: one run of 4 words too frequent", "a.txt:3", "Again.", 100)
    return made


def test_every_number_is_printed_in_the_order_of_the_rules() -> None:
    out = io.StringIO()
    print_account(account(), file=out)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= PLAIN_WIDTH
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    assert [row[:5] for row in rows] == [
        ["removed by", "documents", "lines", "bytes", "share"],
        ["c4: lines that end no sentence", "", "30", "3999", "39.99%"],
        ["c4: too few sentences", "1", "", "1000", "10.00%"],
        ["gopher repetition: one run of 4 words too frequent", "1", "", "100", "1.00%"],
        ["duplicate: near", "1", "", "500", "5.00%"],
        ["kept", "37", "", "4401", "44.01%"],
    ]
    assert rows[2][5].startswith("a.txt:1  One two One two")
    assert rows[4][5] == "b.txt:7  A near [copy]."


def test_lost_characters_and_wrapped_text_are_said() -> None:
    made = account()
    assert remarks(made) == []
    made.lines("c4: lines that end no sentence", 1, 2)
    made.replacement_characters = 2
    assert remarks(made) == [
        "2 kept documents hold U+FFFD: characters were lost before",
        "C4's rules on lines took 50% of the text: is it wrapped, so that lines are no paragraphs? "
        "corpus.clean.c4=null leaves them out",
    ]


def test_the_portion_of_a_stage() -> None:
    assert portion_line(None, 3.0) == ""
    assert portion_line((0, 10), 3.0) == ""
    assert portion_line((3_000_000, 0), 3.0) == "3.00 M bytes  1.00 M bytes/s"
    assert portion_line((3_000_000, 9_000_000), 3.0) == (
        "3.00 M/9.00 M bytes  1.00 M bytes/s  6.0 s left"
    )
    assert portion_line((9, 9), 3.0) == "9/9 bytes  3 bytes/s"

"""What a bag of words can and cannot do."""

from __future__ import annotations

from mtl.scoring.microworld import bag_of_words, guessed_answers, lead, overlap


def test_a_bag_of_words_is_at_chance_where_relations_decide() -> None:
    assert abs(bag_of_words("pronoun") - 0.5) < 0.08
    assert abs(bag_of_words("acceptability")) < 0.15
    assert abs(bag_of_words("similarity")) < 0.15


def test_a_bag_of_words_does_decently_on_sentiment_but_does_not_solve_it() -> None:
    assert 0.62 < bag_of_words("sentiment") < 0.85


def test_entailment_needs_both_sentences() -> None:
    assert bag_of_words("entailment", columns=("hypothesis",)) < 0.42
    assert bag_of_words("entailment") < 0.6


def test_shared_words_do_not_give_the_similarity_away() -> None:
    assert 0.4 < overlap() < 0.8


def test_open_answers_are_not_guessed() -> None:
    assert guessed_answers() < 0.1
    assert max(lead(sentence=0), lead(sentence=1), lead(sentence=-1)) < 0.5

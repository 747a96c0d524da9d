"""Zero-shot: plain language modelling on running text; tasks are only asked, never taught.

Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2): a model of p(text) that has read enough
performs tasks it meets in prompts, with no labelled row and no gradient step. Training reads the corpus alone, and the
class adds nothing to it. Evaluation asks each task by the protocol in its file: candidates by their likelihood, answers
written in text, or the likelihood of the text itself. Scores without a labelled row stand in a panel of their own and
enter no multi-task gain; a protocol that shows examples before each row is few-shot, and called so.
"""

from __future__ import annotations

from mtl.learning.language_modelling import LanguageModelling


class ZeroShot(LanguageModelling):
    """Zero-shot: language modelling on a corpus; tasks are evaluated through prompts only."""

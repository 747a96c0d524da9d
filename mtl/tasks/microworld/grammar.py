"""English words in their forms: plural, article, verb forms, sentence case."""

from __future__ import annotations

from dataclasses import dataclass

IRREGULAR_PLURALS = {"mouse": "mice", "wolf": "wolves", "scarf": "scarves"}


def plural(noun: str) -> str:
    """Plural of a noun."""
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def article(noun: str) -> str:
    """The noun, or noun phrase, with ``a`` or ``an`` before it."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def sentence(text: str, end: str = ".") -> str:
    """Upper-case the first letter and add the end mark."""
    return text[0].upper() + text[1:] + end


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb in its forms."""

    base: str
    past: str
    participle: str

    @property
    def third(self) -> str:
        """Third person singular, present."""
        return plural(self.base)


def verb(written: str) -> Verb:
    """``base past participle``, or ``base past``, or ``base`` of a regular verb."""
    forms = written.split()
    if len(forms) == 1:
        base = forms[0]
        if base.endswith("e"):
            past = base + "d"
        elif base.endswith("y") and base[-2] not in "aeiou":
            past = base[:-1] + "ied"
        else:
            past = base + "ed"
        forms.append(past)
    return Verb(base=forms[0], past=forms[1], participle=forms[-1])

"""The indefinite article of English, by how a noun is spoken."""

import re

# Written with a consonant, spoken with a vowel; and the other way round.
SPOKEN_VOWEL = re.compile(r"(heir|hones|hono|hour)", re.IGNORECASE)
SPOKEN_CONSONANT = re.compile(r"(eu|one\b|once|uni(?!n|m)|us(?!h)|ut[eio])", re.IGNORECASE)


def article(noun: str) -> str:
    """a or an."""
    if SPOKEN_VOWEL.match(noun):
        return "an"
    return "an" if noun[:1].casefold() in "aeiou" and not SPOKEN_CONSONANT.match(noun) else "a"

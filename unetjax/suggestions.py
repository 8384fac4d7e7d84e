"""The nearest names to one that does not exist."""

import difflib
from collections.abc import Iterable

_SIMILAR = 0.6  # in [0, 1]; less similar names are not suggested


def suggest(
    name: str, known: Iterable[str], *, others: Iterable[str] | None = None
) -> str:
    """Returns "did you mean ...?" with the nearest names, or else all known names.

    Where all would be too many, `others` are listed instead.

    Abbreviations count as similar: initials of words, and names with missing letters.
    Dotted names are compared mainly by their last part, so that the section may be
    wrong or missing.

    Example:
      >>> suggest("lr", ["optimizer.learning_rate", "optimizer.clip_norm"])
      'did you mean optimizer.learning_rate?'
      >>> suggest("colour", ["rotation", "flip"])
      'accepted are rotation, flip.'
    """
    known = list(known)
    near = nearest(name, known)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"accepted are {', '.join(known if others is None else others)}."


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Returns the names most similar to a misspelt name, if any is similar enough."""
    scores = {each: _similarity(name, each) for each in known}
    best = max(scores.values(), default=0.0)
    return [each for each, x in scores.items() if x == best and best >= _SIMILAR]


def _similarity(name: str, known: str) -> float:
    """Returns the similarity of two dotted names, in [0, 1]."""
    *section, last = name.lower().replace("-", "_").split(".")
    *known_section, known_last = known.replace("-", "_").split(".")
    score = _word_similarity(last, known_last)
    if not section:
        return score
    return 0.8 * score + 0.2 * _ratio(".".join(section), ".".join(known_section))


def _word_similarity(word: str, known: str) -> float:
    if word == known:
        return 1.0
    letters = word.replace("_", "")
    if len(letters) > 1 and letters == "".join(w[:1] for w in known.split("_")):
        return 0.95
    if sorted(word) == sorted(known):  # letters were swapped
        return 0.9
    score = _ratio(word, known)
    rest = iter(known)  # consumed by each `in`: the letters must come in this order
    if len(letters) > 1 and word[0] == known[0] and all(x in rest for x in letters):
        score = max(score, _SIMILAR + 0.3 * len(letters) / len(known))
    return score


def _ratio(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()

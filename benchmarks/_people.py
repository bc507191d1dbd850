"""What a manifest tells of the people and recordings behind its human clips."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

Row = dict[str, str]
UNKNOWN, POOLED = "unknown", "smaller groups"
NARROW_HZ = 8_000
_FEMALE = (
    "225 228 229 230 231 233 234 236 238 240 244 250 257 261 262 264 267 268 277 288 293 294 300 "
    "305 312 314 317 318 329 330 351 361"
)
_MALE = (
    "226 227 232 237 241 243 245 246 252 254 255 258 259 260 263 271 273 279 281 286 287 311 334 "
    "345 360 374 376"
)
# Adults whose corpus publishes their sex, as the manifests call them.
_PUBLISHED = {
    **{f"VCTK_p{number}": "female" for number in _FEMALE.split()},
    **{f"VCTK_p{number}": "male" for number in _MALE.split()},
    **{f"ARCTIC_{voice}": "female" for voice in ("clb", "slt", "ljm", "lnh")},
    **{f"ARCTIC_{voice}": "male" for voice in ("bdl", "rms", "aew", "awb", "jmk", "ksp")},
    **dict.fromkeys(("LJ", "ljspeech_linda-johnson", "JSUT", "CSMSC"), "female"),
}
_SEX_WORDS = {
    "female": frozenset({"female", "woman", "girl"}),
    "male": frozenset({"male", "man", "boy"}),
}
_CHILD_WORDS = frozenset({"child", "children", "kid", "kids", "boy", "girl"})
_ADULT_WORDS = frozenset({"adult", "man", "woman"})
# Speakers of the Voice Conversion Challenges, and of AdaSpeech 2: F or M says it.
_CODED_SEX = re.compile(r"VCC\d{4}_[ST]([FM])\d|_\d+([FM])$")
_NARROW = re.compile(r"telephone|narrow|(?<!\d)8k", re.IGNORECASE)
# Few values each, so that even a small group is worth a line.
_NEVER_POOLED = ("sex", "age", "bandwidth")


def sex_of(row: Row) -> str:
    """``female``, ``male`` or ``unknown``, as far as the manifest or the corpus says."""
    speaker = row.get("speaker", "")
    coded = _CODED_SEX.search(speaker)
    if coded:
        return "female" if "F" in coded.groups() else "male"
    if _published(speaker):
        return _PUBLISHED[speaker.removeprefix("CMU")]
    said = _words(speaker)
    return next((sex for sex, words in _SEX_WORDS.items() if words & said), UNKNOWN)


def age_of(row: Row) -> str:
    """``child``, ``adult`` or ``unknown``, as far as the manifest or the corpus says."""
    said = _words(" ".join(row.get(name, "") for name in ("speaker", "domain", "method")))
    if said & _CHILD_WORDS:
        return "child"
    known = said & _ADULT_WORDS or _published(row.get("speaker", ""))
    return "adult" if known else UNKNOWN


def bandwidth_of(row: Row) -> str:
    """``8 kHz``, by the original rate, the codec or what is said of the recording, or ``wide``."""
    rate = row.get("original_rate_hz") or row.get("orig_rate") or "16000"
    said = " ".join(row.get(name, "") for name in ("speaker", "domain", "method"))
    narrow = float(rate) <= NARROW_HZ or row.get("orig_codec") == "gsm" or _NARROW.search(said)
    return "8 kHz" if narrow else "wide"


def groupings(row: Row) -> dict[str, str]:
    """The group of a clip by each way of grouping."""
    return {
        "language": row.get("language") or UNKNOWN,
        "sex": sex_of(row),
        "age": age_of(row),
        "bandwidth": bandwidth_of(row),
        "source": row.get("source") or UNKNOWN,
        "origin": row.get("origin") or row["group"],
        "recording": row.get("domain") or row.get("method") or UNKNOWN,
    }


def grouped(rows: Sequence[Row], *, smallest: int) -> dict[str, list[str]]:
    """Groups of rows by each way of grouping that tells them apart.

    Parameters
    ----------
    rows : sequence of dict
    smallest : int
        Groups of fewer rows become one, except by sex, age and bandwidth.

    Returns
    -------
    dict of str to list of str
        A group for each row.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for by, name in groupings(row).items():
            found[by].append(name)
    kept = {
        by: names if by in _NEVER_POOLED else pooled(names, smallest=smallest)
        for by, names in found.items()
    }
    return {by: names for by, names in kept.items() if len(set(names)) > 1}


def pooled(names: Sequence[str], *, smallest: int) -> list[str]:
    """Names, with one name for all that occur fewer than `smallest` times."""
    sizes = Counter(names)
    return [name if sizes[name] >= smallest else POOLED for name in names]


def _published(speaker: str) -> bool:
    return speaker.removeprefix("CMU") in _PUBLISHED


def _words(text: str) -> set[str]:
    return {word.lower() for word in re.split(r"[^A-Za-z]+", text)}

"""Protocols and score files: lists of trials in, lists of trials out, and the two matched.

One :class:`Trial` serves every corpus. Readers stream; errors name file and line; a part of a
protocol (``eval``, ``progress``, ``hidden``) is always asked for by name.

>>> from voiceguard import protocols
>>> trials = protocols.read_trials("trial_metadata.txt", "asvspoof2021-df", subset="eval")
"""

from __future__ import annotations

from voiceguard.protocols.asv_scores import AsvScores, read_asv_scores, read_asv_scores_2021
from voiceguard.protocols.checking import PUBLISHED_COUNTS, DataReport, TrialCounts, check
from voiceguard.protocols.matching import MismatchError, ScoredTrials, match
from voiceguard.protocols.reading import (
    ALL_SUBSETS,
    FORMATS,
    guess_format,
    read_trials,
    select_subset,
)
from voiceguard.protocols.score_files import (
    SCORE_FORMATS,
    ScoreRow,
    iter_scores,
    read_scores,
    write_scores,
)
from voiceguard.protocols.trial import Trial, TrialLabel, parse_label
from voiceguard.protocols.writing import write_trials

__all__ = [
    "ALL_SUBSETS",
    "FORMATS",
    "PUBLISHED_COUNTS",
    "SCORE_FORMATS",
    "AsvScores",
    "DataReport",
    "MismatchError",
    "ScoreRow",
    "ScoredTrials",
    "Trial",
    "TrialCounts",
    "TrialLabel",
    "check",
    "guess_format",
    "iter_scores",
    "match",
    "parse_label",
    "read_asv_scores",
    "read_asv_scores_2021",
    "read_scores",
    "read_trials",
    "select_subset",
    "write_scores",
    "write_trials",
]

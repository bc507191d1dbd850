"""The column layouts of the protocols that come as lines of columns.

Sources: the evaluation plans and key packages of ASVspoof 2019, 2021 and 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from voiceguard.protocols.trial import Trial, TrialLabel

_NONE = "-"
_FIELDS = ("speaker", "attack", "codec", "subset")
SUBSET_SPELLINGS = {"hidden_track": "hidden"}
"""Names of subsets in older keys, and those of today."""


@dataclass(frozen=True)
class Layout:
    """One way to write a trial on a line.

    Parameters
    ----------
    name : str
        The layout's name.
    columns : tuple of str
        Fields of :class:`Trial` or names of extra columns, in order.
    no_attack : str
        What stands in the attack column of a bona fide trial when it is written.
    """

    name: str
    columns: tuple[str, ...]
    no_attack: str = _NONE

    def parser(self) -> Callable[[Sequence[str]], Trial]:
        """Return a function from the columns of a line to a trial; ValueError says what is off."""
        place = {column: i for i, column in enumerate(self.columns)}
        extra = [c for c in self.columns if c not in (*_FIELDS, "utterance", "label")]
        extra_places = [place[column] for column in extra]
        known: dict[tuple[str, ...], tuple[tuple[str, str], ...]] = {}

        def pick(values: Sequence[str], column: str) -> str | None:
            at = place.get(column)
            return None if at is None or values[at] == _NONE else values[at]

        def parse(values: Sequence[str]) -> Trial:
            label = _label(values[place["label"]])
            others = tuple(values[i] for i in extra_places)
            # The extra columns take few distinct values; sharing them keeps a million trials small.
            if others not in known:
                known[others] = tuple(zip(extra, others, strict=True))
            subset, attack = pick(values, "subset"), pick(values, "attack")
            return Trial(
                utterance=values[place["utterance"]],
                speaker=pick(values, "speaker"),
                label=label,
                attack=None if label == "bonafide" else attack,
                codec=pick(values, "codec"),
                subset=None if subset is None else SUBSET_SPELLINGS.get(subset, subset),
                extra=known[others],
            )

        return parse

    def render(self, trial: Trial) -> list[str]:
        """Give the columns of a line; a value that would break the line raises ValueError."""
        values = [self._value(trial, column) for column in self.columns]
        for column, value in zip(self.columns, values, strict=True):
            if not value or any(character.isspace() for character in value):
                raise ValueError(
                    f"the '{column}' of trial {trial.utterance!r} must hold no blank and not be "
                    f"empty in this format. Got {value!r} instead"
                )
        return values

    def _value(self, trial: Trial, column: str) -> str:
        if column == "attack" and trial.attack is None and trial.label == "bonafide":
            return self.no_attack
        value = trial.get(column)
        return _NONE if value is None else value


def _label(text: str) -> TrialLabel | None:
    if text == "bonafide":
        return "bonafide"
    if text == "spoof":
        return "spoof"
    if text == _NONE:
        return None
    raise ValueError(f"the label must be 'bonafide', 'spoof' or '-'. Got {text!r} instead")


ASVSPOOF2019_LA = Layout(
    "asvspoof2019-la", ("speaker", "utterance", "environment", "attack", "label")
)
ASVSPOOF2019_PA = Layout(
    "asvspoof2019-pa", ("speaker", "utterance", "environment", "attack", "label")
)
ASVSPOOF2021_LA = Layout(
    "asvspoof2021-la",
    ("speaker", "utterance", "codec", "transmission", "attack", "label", "trim", "subset"),
    no_attack="bonafide",
)
ASVSPOOF2021_DF = Layout(
    "asvspoof2021-df",
    (
        *("speaker", "utterance", "codec", "source", "attack", "label", "trim", "subset"),
        *("vocoder", "task", "team", "gender_pair", "language"),
    ),
)
ASVSPOOF5 = Layout(
    "asvspoof5",
    (
        *("speaker", "utterance", "gender", "codec", "codec_q", "codec_seed"),
        *("attack_tag", "attack", "label", "tmp"),
    ),
    no_attack="bonafide",
)
ASVSPOOF5_EARLY = Layout(
    "asvspoof5-early",
    ("speaker", "utterance", "gender", "codec", "attack", "label"),
    no_attack="bonafide",
)

LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "asvspoof2019-la": (ASVSPOOF2019_LA,),
    "asvspoof2019-pa": (ASVSPOOF2019_PA,),
    "asvspoof2021-la": (ASVSPOOF2021_LA,),
    "asvspoof2021-df": (ASVSPOOF2021_DF,),
    "asvspoof5": (ASVSPOOF5, ASVSPOOF5_EARLY),
    "asvspoof5-early": (ASVSPOOF5_EARLY,),
}
"""For each format the layouts that it is read by; the first is the one that it is written in."""

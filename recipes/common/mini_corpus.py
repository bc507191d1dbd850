r"""Lay a small corpus out exactly as ASVspoof 2019 LA, 2021 LA and DF, 5 or In-the-Wild is.

The corpora themselves are large and behind forms; this makes folders that look like them, down to
file names and protocol columns, of any bona fide and spoof clips, so that the recipes run end to
end and can be trained for real on what is at hand.

    python mini_corpus.py --source ../../../shared/corpus --out mini_la \
        --layout asvspoof2019_la --trials 4000 --seconds 4 --seed 0

``--out`` becomes what the archives unpack to:

===================  ==========================================================================
asvspoof2019_la      ``ASVspoof2019_LA_{train,dev,eval}/flac/LA_{T,D,E}_*.flac``,
                     ``ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.*.txt``
asvspoof2021_la      ``ASVspoof2021_LA_eval/flac/LA_E_*.flac`` and the list of trials,
                     ``keys/LA/CM/trial_metadata.txt``
asvspoof2021_df      ``ASVspoof2021_DF_eval/flac/DF_E_*.flac`` and the list of trials,
                     ``keys/DF/CM/trial_metadata.txt``
asvspoof5            ``flac_{T,D,E_eval}/{T,D,E}_*.flac``,
                     ``ASVspoof5.{train,dev.track_1,eval.track_1}.tsv``
in_the_wild          ``*.wav``, ``meta.csv``
===================  ==========================================================================

What differs from the originals: dev too holds systems that train lacks (see ``mini_source.py``),
two trials in five are bona fide, attack numbers go on for as long as there are systems, and there
are neither ASV protocols nor ASV scores. The 2021 layouts and In-the-Wild hold the eval part alone,
under the same attack and speaker numbers as the other layouts of the same source: what is trained
on one layout may be judged on another.

Codecs are what their column says, at bit rates that 16 kHz speech allows; nothing was sent over a
line (the transmission column says ``loc_tx``, and ``mad_tx`` with ``pstn``, as the keys pair them).
Hidden trials are trimmed.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mini_layouts import LAYOUTS, Draft
from mini_source import Family, read_source

from voiceguard.audio import read
from voiceguard.errors import ParameterError, VoiceguardError

SAMPLE_RATE = 16_000


def make_mini_corpus(
    source: Path,
    out: Path,
    *,
    layout: str,
    trials: int,
    seconds: float,
    seed: int,
    family: Family | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Make a small corpus in one of the official layouts.

    Parameters
    ----------
    source : Path
        See :func:`mini_source.read_source`.
    out : Path
        The corpus to be; it must not be there, or be empty. It takes its name once it is whole.
    layout : str
        One of :data:`LAYOUTS`.
    trials : int
        In all, at least 20; train, dev and eval get 55, 15 and 30 % where the layout has them. A
        part that has fewer clips uses them again, with another stretch of each.
    seconds : float
        Longest trial; a random stretch of a longer clip is taken.
    seed : int
        Chooses clips, stretches, codecs and numbers; same seed, same bytes.
    family : callable, optional
        See :func:`mini_source.read_source`.
    on_progress : callable, optional
        Called with (trials done, trials in all).

    Returns
    -------
    Path
        `out`: what a recipe takes for its ``--data_folder``.

    Raises
    ------
    ParameterError
        If an option is out of range, or `out` holds something.
    ProtocolError
        If the source cannot be read or dealt.
    """
    source, out = Path(source), Path(out)
    _check(out, layout, trials, seconds)
    clips = read_source(source, family=family)
    rng = np.random.default_rng([seed, *layout.encode()])
    drafts = LAYOUTS[layout].draft(clips, trials, rng)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for done, (draft, stream) in enumerate(zip(drafts, rng.spawn(len(drafts)), strict=True), 1):
        _render(draft, partial / draft.file, seconds, stream)
        if on_progress is not None:
            on_progress(done, len(drafts))
    LAYOUTS[layout].write(partial, drafts)
    if out.is_dir():
        out.rmdir()
    partial.replace(out)
    return out


def _check(out: Path, layout: str, trials: int, seconds: float) -> None:
    if layout not in LAYOUTS:
        raise ParameterError(
            f"The 'layout' parameter of make_mini_corpus must be one of {sorted(LAYOUTS)}. "
            f"Got {layout!r} instead."
        )
    if trials < 20:
        raise ParameterError(
            "The 'trials' parameter of make_mini_corpus must be an int >= 20, so that every part "
            f"and subset gets both classes. Got {trials!r} instead."
        )
    if not 0.1 <= seconds < 3_600:
        raise ParameterError(
            "The 'seconds' parameter of make_mini_corpus must be a number in [0.1, 3600). "
            f"Got {seconds!r} instead."
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ParameterError(
            f"The 'out' parameter of make_mini_corpus must be a new or empty folder. {out} holds "
            "something: remove it, or choose another."
        )


def _render(draft: Draft, path: Path, seconds: float, rng: np.random.Generator) -> None:
    import soundfile

    x = read(draft.clip.path, sample_rate=SAMPLE_RATE).samples[0]
    length = round(seconds * SAMPLE_RATE)
    start = int(rng.integers(0, max(len(x) - length, 0) + 1))
    x = draft.channel(x[start : start + length])
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.clip(x, -1.0, 1.0), SAMPLE_RATE, subtype="PCM_16")


def _report(done: int, total: int) -> None:
    if done % 500 == 0 or done == total:
        print(f"{done} of {total} trials", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--layout", choices=sorted(LAYOUTS), required=True)
    parser.add_argument("--trials", type=int, default=4_000)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        made = make_mini_corpus(**vars(args), on_progress=_report)
    except VoiceguardError as error:
        parser.exit(2, f"Error: {error}\n")
    print(made)


if __name__ == "__main__":
    main()

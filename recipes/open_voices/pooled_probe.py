"""Cross-validate probes on pooled features, alone and summed; then write their network.

    E=work/encoders
    M="$E/distillmos.safetensors:0::axes=96,penalty=0.01 $E/whisper-tiny-en.safetensors:0,1,2:384"
    python pooled_probe.py --data_folder ../../../shared/corpus --work work --members $M
    python pooled_probe.py --data_folder ../../../shared/corpus --work work --members $M \
        --far far_folds.csv --out work/base9
    python pooled_probe.py --data_folder ../../../shared/corpus --work work --far far_folds.csv \
        --folds 0 2 4 --members $E/distillmos.safetensors:0::penalty=0.01

Members are told as in :mod:`probes`. Each of the five folds (or of ``--folds``) is held out in
turn: the mean errors of each member and of their sum, as recorded and by telephone, are printed and
appended to ``ablations.csv``; by them members and settings are chosen. With ``--far far_folds.csv``
the human origins are held out in clusters (:mod:`far`): harder, and nearer to voices from
elsewhere. A member counts by one over the deviation of its cross-validated scores, so that none
drowns the others.

With ``--out`` the probes are then fitted on every clip, or with ``--fold`` on those that train in
that fold, and written: each behind its encoder and under its name, for ``ssl_finetune.py``;
``joined.safetensors``, the sum as one network; ``crossed.csv.gz``, the cross-validated scores of
the sum through four channels, from which ``export.py`` calibrates. With ``--targets`` also
``targets.npz``, what the probes believe of each window that trains and what the encoders hear in
it, for a student (``train.py hparams/distil.yaml``).

    python reopen.py BUNDLE --out work/base9/joined.safetensors
    cp calibration_scores.csv.gz work/base9/crossed.csv.gz
    python pooled_probe.py --data_folder ../../../shared/corpus --work work --far far_folds.csv \
        --beside work/base9 --members $E/plcmos.safetensors:2,3 --out work/base10

``--beside`` adds members to an ensemble that was fitted on every clip, by its weights and its
cross-validated scores over the same folds: what its encoders hear need not be computed again. A
lone network there, such as the student of ``imitate.py``, counts as a new member does. With
``--instead first g711 ...`` they take the places of those in it that hear the same: what each of
these believed of held-out clips is fitted anew, on the passes that are named, and taken out of the
known scores. ``--counting 0.5`` lets what joins count half of the usual. A ``--fold`` is held out
of what joins alone: what is joined has to have done so.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pooled
import torch
from export import load_model
from far import read_folds
from judge import errors, read_scores, told, write_scores
from probes import Features, Floats, Member, Probe, Rows, fit, told_of
from split import CLASSICAL, N_FOLDS, Split, family, is_added, is_judged, split
from teacher import PooledAxes

from voiceguard.features.ssl import SSLEncoder
from voiceguard.models.ssl_ensemble import SSLEnsemble, save_ssl_ensemble
from voiceguard.models.ssl_network import SSLNetwork, save_ssl_network
from voiceguard.training.corpus import Corpus, open_corpus

PASSES = ("first", "g711", "telephone", "channel")
JUDGED_ON = ("first", "g711")
SUM, STUDENT = "joined.safetensors", "average.safetensors"
"""What this script writes, and ``imitate.py``."""
ABLATIONS = (
    "date", "probe", "settings", "passes", "folds",
    "eer_clean", "macro_clean", "eer_g711", "macro_g711",
)  # fmt: skip

Scores = dict[str, dict[str, Floats]]
"""By member or sum, then by pass [shape=(clips,)]."""


def crossed(
    members: dict[str, Features],
    corpus: Corpus,
    folds: Sequence[Split],
    passes: Sequence[str],
    heard: Sequence[str],
) -> Scores:
    """Scores of each clip by probes that heard neither its family nor its origin.

    NaN for what no fold holds out: re-syntheses, and people that were added to the corpus.
    """
    found: Scores = {
        name: {channel: np.full(len(corpus), np.nan) for channel in heard} for name in members
    }
    for number, sides in enumerate(folds):
        for name, features in members.items():
            probe = fit(features, corpus, sides.train, passes)
            for channel in heard:
                rows = features(channel, sides.held_out)
                found[name][channel][sides.held_out] = probe.decision_function(rows)
        print(f"fold {number} of {len(folds)} is judged", flush=True)
    return found


def shares(scores: Scores) -> dict[str, float]:
    """What each member counts in the sum."""
    return {
        name: float(1.0 / np.nanstd(np.concatenate(list(by_pass.values()))))
        for name, by_pass in scores.items()
    }


def with_sum(scores: Scores, weights: dict[str, float]) -> Scores:
    """The same with the weighted sum of all members, where there are several."""
    if len(scores) < 2:
        return scores
    channels = next(iter(scores.values()))
    total = {
        channel: np.sum([weights[name] * scores[name][channel] for name in scores], axis=0)
        for channel in channels
    }
    return {**scores, f"sum of {' and '.join(scores)}": total}


def fold_errors(scores: Floats, corpus: Corpus, folds: Sequence[Split]) -> npt.NDArray[np.float64]:
    """Equal error rate in each fold, plain and with families alike [shape=(folds, 2)]."""
    found = []
    for rows in (sides.held_out for sides in folds):
        bonafide = np.array([corpus.rows[i]["label"] == "bonafide" for i in rows])
        families = [family(corpus.rows[i]) for i in rows]
        found.append(errors(scores[rows], bonafide, families))
    return np.array(found)


def pot_errors(
    scores: Floats, corpus: Corpus, folds: Sequence[Split]
) -> tuple[float, float, float]:
    """Equal error rate with all folds in one pot: all engines, present-day ones, classical ones."""
    rows = np.concatenate([sides.held_out for sides in folds])
    families = np.array([family(corpus.rows[i]) for i in rows])
    bonafide = np.array([corpus.rows[i]["label"] == "bonafide" for i in rows])
    classical = np.isin(families, sorted(CLASSICAL))
    sides = (np.ones(len(rows), bool), ~classical, bonafide | classical)
    every, present, old = (
        errors(scores[rows[side]], bonafide[side], list(families[side]))[0]
        if not bonafide[side].all()
        else float("nan")
        for side in sides
    )
    return every, present, old


class Beside:
    """What new members join, an ensemble or a lone network: its folder, under the folder's name.

    A lone network counts by one over the deviation of its scores, which are scaled so.
    """

    def __init__(self, folder: Path, corpus: Corpus) -> None:
        self.name = folder.name
        found = [path for name in (SUM, STUDENT) if (path := folder / name).is_file()]
        if not found:
            raise SystemExit(f"{folder} must hold {SUM} or {STUDENT}. Got neither.")
        model = load_model(found[0])
        bonafide, scores = read_scores(folder / "crossed.csv.gz")
        rows = [i for i, row in enumerate(corpus.rows) if is_judged(row)]
        if [corpus.rows[i]["label"] == "bonafide" for i in rows] != bonafide.tolist():
            raise SystemExit(f"{folder} has scores of other clips than this corpus has.")
        self.scores = {channel: np.full(len(corpus), np.nan) for channel in scores}
        for channel, one in scores.items():
            self.scores[channel][rows] = one
        if isinstance(model, SSLEnsemble):
            self.networks, self.weights = list(model.networks), list(model.weights)
        else:
            share = shares({self.name: self.scores})[self.name]
            self.networks, self.weights = [model], [share]
            self.scores = {channel: share * one for channel, one in self.scores.items()}

    def take_out(self, encoder: SSLEncoder) -> float:
        """Take out the member that hears so; what it counted.

        Raises
        ------
        SystemExit
            If no member or several hear so.
        """
        found = [
            place
            for place, network in enumerate(self.networks)
            if isinstance(network, SSLNetwork)
            and (network.encoder.architecture, network.encoder.layers)
            == (encoder.architecture, encoder.layers)
        ]
        if len(found) != 1:
            raise SystemExit(
                f"{self.name} must have one member on {encoder.architecture}, layers "
                f"{encoder.layers}. Got {len(found)}."
            )
        del self.networks[found[0]]
        return self.weights.pop(found[0])


def report(
    scores: Scores,
    corpus: Corpus,
    folds: Sequence[Split],
    table: Path,
    *,
    passes: Sequence[str],
    kind: str,
    how: Mapping[str, str],
) -> None:
    """Print the mean errors over the folds, and each fold's; append the means to the table."""
    new = not table.is_file()
    added = sum(map(is_added, corpus.rows))
    beside = [f"{added} clips added"] if added else []
    with table.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(ABLATIONS)
        for name, by_pass in scores.items():
            means = []
            for channel in JUDGED_ON:
                each = fold_errors(by_pass[channel], corpus, folds)
                by_fold = " ".join(f"{100 * value:.1f}" for value in each[:, 1])
                print(told(f"{name}, {channel}", *each.mean(0)), f"(folds: {by_fold})")
                means += [f"{value:.4f}" for value in each.mean(0)]
                pot = (
                    f"{100 * value:.1f}" for value in pot_errors(by_pass[channel], corpus, folds)
                )
                print("    in one pot {} %, present-day {} %, classical {} %".format(*pot))
            today = datetime.date.today().isoformat()
            fitted = "; ".join([how.get(name, "; ".join(how.values())), *beside])
            trial = [name, fitted, " ".join(passes), kind]
            writer.writerow([today, *trial, *means])


def believed(
    members: dict[str, Features],
    probes: dict[str, Probe],
    passes: Sequence[str],
    train: Rows,
    n_clips: int,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """What the probes together say of each window, and what the encoders hear in it.

    Both by pass and clip [shape=(passes * n_clips,)] and [shape=(passes * n_clips, AXES)]. The
    belief in a clip, the mean of the members' log-odds, is the mean over its passes: what is plain
    as recorded is asked of the same clip by telephone. NaN for clips that do not train.
    """
    odds = np.zeros(len(train))
    for name, features in members.items():
        for heard in passes:
            odds += probes[name].decision_function(features(heard, train))
    odds /= len(members) * len(passes)
    whole = np.concatenate(
        [np.hstack([f(heard, train) for f in members.values()]) for heard in passes]
    )
    axes = PooledAxes(whole)(whole).reshape(len(passes), len(train), -1)
    beliefs = np.full((len(passes), n_clips), np.nan, np.float32)
    views = np.zeros((len(passes), n_clips, axes.shape[2]), np.float32)
    beliefs[:, train], views[:, train] = odds, axes
    return beliefs.reshape(-1), views.reshape(len(passes) * n_clips, -1)


def write_crossed(path: Path, scores: dict[str, Floats], corpus: Corpus) -> None:
    """The cross-validated scores of the clips that some fold holds out."""
    rows = [i for i, row in enumerate(corpus.rows) if is_judged(row)]
    bonafide = np.array([corpus.rows[i]["label"] == "bonafide" for i in rows])
    write_scores(path, bonafide, {channel: one[rows] for channel, one in scores.items()})


def write(
    members: dict[str, Features],
    encoders: dict[str, SSLEncoder],
    weights: dict[str, float],
    scores: Scores,
    corpus: Corpus,
    args: argparse.Namespace,
    beside: Beside | None,
) -> None:
    """Fit on all that may train, and write network, scores and, where asked for, targets."""
    train = np.arange(len(corpus))
    if args.fold is not None:
        train = split(corpus.rows, args.fold, released=args.released).train
    probes = {name: fit(one, corpus, train, args.passes) for name, one in members.items()}
    networks = [one.network(probes[name], encoders[name]) for name, one in members.items()]
    args.out.mkdir(parents=True, exist_ok=True)
    for name, network in zip(members, networks, strict=True):
        plain = re.sub("[:,=]+", "-", name)
        save_ssl_network(network, args.out / f"{plain}.safetensors")
    path = args.out / SUM
    counted = [weights[name] for name in members]
    if beside is not None:
        networks = [*beside.networks, *networks]
        counted = [*beside.weights, *counted]
    save_ssl_ensemble(SSLEnsemble(networks, counted), path)
    print(f"wrote {path}, weights {[round(w, 3) for w in counted]}")
    write_crossed(args.out / "crossed.csv.gz", list(scores.values())[-1], corpus)
    if not args.targets:
        return
    logits, views = believed(members, probes, args.passes, train, len(corpus))
    np.savez(args.out / "targets.npz", features=views, logits=logits)
    print(f"wrote targets of {len(train)} clips in {len(args.passes)} passes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_folder", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--members", nargs="+", type=Member.parse, required=True)
    parser.add_argument("--context_s", type=float, default=4.02, help="of Whisper's window")
    parser.add_argument("--passes", nargs="+", default=pooled.PASSES)
    parser.add_argument("--far", type=Path, help="folds of human origins, from far.py")
    parser.add_argument("--beside", type=Path, help="folder of a network that the members join")
    parser.add_argument("--instead", nargs="+", help="passes of the members whose places are taken")
    parser.add_argument("--counting", type=float, default=1.0, help="of what joins, the usual is 1")
    parser.add_argument("--folds", type=int, nargs="+", default=range(N_FOLDS), help="to judge on")
    parser.add_argument("--fold", type=int, help="hold it out; else every clip trains")
    parser.add_argument("--released", nargs="*", default=[], help="parts of the fold to train on")
    parser.add_argument("--results", type=Path, default=Path("ablations.csv"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--targets", action="store_true", help="write those of a student too")
    args = parser.parse_args()
    if args.targets and (args.beside or not args.out):
        parser.error("--targets are of members alone, with --out: leave out --beside.")
    if args.out and len(args.folds) < N_FOLDS:
        parser.error("--out calibrates on every fold: leave out --folds.")
    if args.instead and not args.beside:
        parser.error("--instead takes places in an ensemble: add --beside.")
    torch.set_num_threads(args.threads)
    corpus = open_corpus(args.data_folder, args.work / "cache")
    encoders = {str(member): member.encoder(args.context_s) for member in args.members}
    members = {
        str(member): member.features(args.work, encoders[str(member)]) for member in args.members
    }
    dealt = read_folds(args.far) if args.far else None
    folds = [split(corpus.rows, number, dealt=dealt) for number in args.folds]
    heard = PASSES if args.out else JUDGED_ON
    beside = Beside(args.beside, corpus) if args.beside else None
    # What is wrong with the ensemble shows before the folds, which take minutes.
    taken: dict[str, float] = {}
    if beside is not None and args.instead:
        taken = {name: beside.take_out(encoder) for name, encoder in encoders.items()}
    scores = crossed(members, corpus, folds, args.passes, heard)
    weights = {name: args.counting * share for name, share in shares(scores).items()}
    if beside is not None:
        known = {channel: beside.scores[channel] for channel in heard}
        old = crossed(members, corpus, folds, args.instead, heard) if taken else {}
        for name, share in taken.items():
            known = {channel: known[channel] - share * old[name][channel] for channel in heard}
        scores, weights = {beside.name: known, **scores}, {beside.name: 1.0, **weights}
    scores = with_sum(scores, weights)
    some = "5" if len(args.folds) == N_FOLDS else " ".join(map(str, args.folds))
    kind = f"{some} {'far' if args.far else 'by size'}"
    how = {str(member): told_of(member.fit) for member in args.members}
    report(scores, corpus, folds, args.results, passes=args.passes, kind=kind, how=how)
    if args.out:
        write(members, encoders, weights, scores, corpus, args, beside)


if __name__ == "__main__":
    main()

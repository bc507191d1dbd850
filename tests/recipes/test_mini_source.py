"""Clips are dealt to the parts by whole systems and people."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from voiceguard.errors import ProtocolError


@pytest.fixture(scope="module")
def source(mini_scripts):
    return mini_scripts["mini_source"]


def layered(root, spec):
    """Empty files by relative path: the dealing looks at names alone."""
    for path in spec:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def test_a_folder_per_class_is_told_by_folder_or_by_name(source, tmp_path):
    spec = [f"fake/{name}/{i}.wav" for name in ("a", "b", "c", "d") for i in range(3)]
    spec += [f"real/{name}_{i:02d}.wav" for name in ("ann", "bo-2", "cy") for i in range(3)]
    clips = source.read_source(layered(tmp_path, spec))
    assert {c.family for c in clips if not c.bonafide} == {"a", "b", "c", "d"}
    assert {c.group for c in clips if c.bonafide} == {
        f"bonafide:{n}" for n in ("ann", "bo-2", "cy")
    }
    assert len(clips) == len(spec)


@pytest.mark.parametrize(
    ("spoofs", "humans", "said"),
    [(2, 3, "at least 3 systems.*Got 2"), (3, 2, "at least 3 human origins.*Got 2")],
)
def test_too_few_names_to_hold_any_out_are_refused(spoofs, humans, said, source, tmp_path):
    spec = [f"spoof/{name}/0.wav" for name in "abc"[:spoofs]]
    spec += [f"bonafide/{name}/0.wav" for name in "abc"[:humans]]
    with pytest.raises(ProtocolError, match=said):
        source.read_source(layered(tmp_path, spec))


def manifest(root, lines):
    (root / "manifest.csv").write_text("file,label,system,origin,group\n" + "\n".join(lines))
    return root


def test_a_copy_follows_its_human_and_a_demonstration_its_page(source, tmp_path):
    lines = [f"h{i}.wav,real,,origin{i % 9},person{i}" for i in range(90)]
    lines += [f"c{i}.wav,fake,vocoder{i % 6},copies,person{i}" for i in range(90)]
    lines += [f"d{i}.wav,fake,demo{i % 6},origin{i % 9},voice{i}" for i in range(90)]
    lines += [f"t{i}.wav,fake,tts{i % 6},shop,voice-of-tts{i % 6}" for i in range(90)]
    clips = source.read_source(
        manifest(tmp_path, lines),
        family=lambda r: r["system"] if r["label"] == "spoof" else r["origin"],
    )
    homes = {}
    for clip in clips:
        number = int(clip.path.stem[1:])
        names = [f"group:{clip.group}", f"family:{clip.family}"]
        if clip.path.stem[0] in "hd":
            names.append(f"origin{number % 9}")
        for name in names:
            assert homes.setdefault(name, clip.part) == clip.part
    kept = Counter(clip.path.stem[0] for clip in clips)
    assert kept["h"] == kept["t"] == 90
    assert 0 < kept["c"] < 90 and 0 < kept["d"] < 90


def test_a_copy_follows_its_human_even_where_its_group_forgets_it(source, tmp_path):
    lines = ["file,label,system,origin,group,derived_from"]
    lines += [f"bonafide/h_{i}.wav,bonafide,human,origin{i % 9},person{i}," for i in range(90)]
    lines += [f"spoof/c{i}.wav,spoof,vocoder{i % 5},copies,c{i},{i}" for i in range(90)]
    lines += [f"spoof/t{i}.wav,spoof,tts{i % 6},shop,t{i}," for i in range(90)]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    parts = {clip.path.stem: clip.part for clip in source.read_source(tmp_path)}
    copies = [i for i in range(90) if f"c{i}" in parts]
    assert 0 < len(copies) < 90
    assert all(parts[f"c{i}"] == parts[f"h_{i}"] for i in copies)


def test_origins_that_share_a_speaker_stay_together(source, tmp_path):
    lines = [f"h{i}.wav,real,,origin{i % 6},person{i % 3}" for i in range(36)]
    lines += [f"t{i}.wav,fake,tts{i % 3},shop{i % 3},voice{i % 3}" for i in range(36)]
    clips = source.read_source(manifest(tmp_path, lines))
    humans = {(clip.group, clip.part) for clip in clips if clip.bonafide}
    assert len(humans) == 3
    assert {part for _, part in humans} == {"train", "dev", "eval"}


@pytest.mark.parametrize("line", ["x.wav,maybe,a,b,c", ",real,a,b,c"])
def test_a_bad_line_is_named(line, source, tmp_path):
    with pytest.raises(ProtocolError, match=r"manifest\.csv, line 2"):
        source.read_source(manifest(tmp_path, [line]))


def test_systems_come_alike_often_until_they_run_out(source):
    clips = [
        source.Clip(Path(f"{name}{i}"), False, name, "g", "train")
        for name, count in (("large", 50), ("middle", 10), ("small", 2))
        for i in range(count)
    ]
    rng = np.random.default_rng(0)
    chosen = source.choose(clips, 22, rng)
    assert Counter(clip.family for clip in chosen) == {"large": 10, "middle": 10, "small": 2}
    assert len({clip.path for clip in chosen}) == 22
    again = Counter(clip.path for clip in source.choose(clips, 2 * len(clips), rng))
    assert set(again.values()) == {2}


def test_the_real_corpus_deals_sensibly(source, corpus_folder):
    clips = source.read_source(corpus_folder)
    total = Counter(clip.bonafide for clip in clips)
    for part, share in source.SHARES.items():
        for bonafide in (True, False):
            own = sum(clip.part == part and clip.bonafide == bonafide for clip in clips)
            assert own / total[bonafide] == pytest.approx(share, abs=0.06)
    families = {part: {c.family for c in clips if c.part == part} for part in source.SHARES}
    assert not families["train"] & families["eval"]
    assert not families["dev"] & (families["train"] | families["eval"])
    # Each part could fill 4,000 trials without a clip twice.
    assert sum(clip.part == "train" and clip.bonafide for clip in clips) >= 880
    assert len(clips) > 8_500

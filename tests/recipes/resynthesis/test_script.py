"""The script: what it makes of a corpus, and that a run that was killed goes on."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceguard.errors import ProtocolError
from voiceguard.training.corpus import Corpus, open_corpus

from .conftest import R, voice


def toy_corpus(clips=8):
    """Humans of four groups, and every third row a spoof."""
    rows, sounds = [], []
    for i in range(clips):
        human = i % 3 != 2
        rows.append(
            {
                "file": f"bonafide/h_clip{i}.ogg" if human else f"spoof/s_{i}.ogg",
                "label": "bonafide" if human else "spoof",
                "kind": "human" if human else "tts",
                "system": "human" if human else f"engine{i}",
                "method": "read speech",
                "group": f"speaker{i % 4}",
                "origin": f"repo{i % 2}",
                "licence": "CC0",
                "derived_from": "",
            }
        )
        sounds.append(np.round(voice(i, 0.6 + 0.01 * i) * 32_767).astype(np.int16))
    offsets = np.concatenate([[0], np.cumsum([len(x) for x in sounds])])
    return Corpus(rows=rows, pcm=np.concatenate(sounds), offsets=offsets)


class TestPlan:
    @given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 40), st.integers(0, 9))
    @settings(max_examples=60, deadline=None)
    def test_methods_are_balanced_and_copies_differ(self, humans, per_clip, clips, seed):
        rows = list(range(100, 100 + 3 * humans, 3))
        items = R.script.plan(rows, clips=clips, per_clip=per_clip, seed=seed)
        taken = min(clips, humans) if clips else humans
        assert len(items) == taken * per_clip
        assert len({(item.row, item.copy) for item in items}) == len(items)
        assert {item.row for item in items} <= set(rows)
        for row in {item.row for item in items}:
            names = [item.asked for item in items if item.row == row]
            assert len(set(names)) == min(per_clip, len(R.script.NAMES))

    def test_over_many_clips_every_method_is_asked_alike(self):
        items = R.script.plan(list(range(900)), clips=0, per_clip=1, seed=1)
        assert set(Counter(item.asked for item in items).values()) == {100}

    def test_the_stride_is_even(self):
        items = R.script.plan(list(range(1000)), clips=10, per_clip=1, seed=1)
        assert [item.row for item in items] == list(range(0, 1000, 100))

    def test_short_silent_and_synthetic_clips_are_left_out(self):
        corpus = toy_corpus(6)
        pcm = corpus.pcm.copy()
        pcm[: corpus.offsets[1]] = 0
        cut = Corpus(rows=corpus.rows, pcm=pcm, offsets=corpus.offsets.copy())
        cut.offsets[2] = cut.offsets[1] + 4000
        assert R.script.humans(corpus) == [0, 1, 3, 4]
        assert R.script.humans(cut) == [3, 4]

    def test_a_clip_at_a_few_steps_is_silence_and_at_ten_is_not(self):
        corpus = toy_corpus(2)
        first = slice(0, corpus.offsets[1])
        # 5 of 32,768 are 1.5e-4, and 10 of them 3e-4.
        for step, kept in ((5, [1]), (10, [0, 1])):
            pcm = corpus.pcm.copy()
            pcm[first] = step
            quiet = Corpus(rows=corpus.rows, pcm=pcm, offsets=corpus.offsets)
            assert R.script.humans(quiet) == kept


class TestRun:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        pytest.importorskip("pyworld", reason="pyworld is absent: pip install pyworld")
        monkeypatch.setattr(R.script, "BOOKS", ({"n_fft": 512, "n_mels": 24, "codewords": 4},))
        monkeypatch.setattr(R.store, "FLUSH", 2)

    @staticmethod
    def go(folder, seed=1):
        return R.script.run(toy_corpus(), folder, clips=0, per_clip=1, seed=seed)

    @staticmethod
    def files(folder):
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def test_a_killed_run_goes_on_to_the_same_files(self, tmp_path, monkeypatch):
        self.go(tmp_path / "whole")
        put, calls = R.store.Store.put, []

        def killed(store, *args):
            calls.append(1)
            if len(calls) > 3:
                raise KeyboardInterrupt
            put(store, *args)

        with monkeypatch.context() as patch:
            patch.setattr(R.store.Store, "put", killed)
            with pytest.raises(KeyboardInterrupt):
                self.go(tmp_path / "parts")
        measures = tmp_path / "parts" / "measures.csv"
        assert len(measures.read_text().splitlines()) == 3
        with measures.open("a") as file:
            file.write("half a li")
        self.go(tmp_path / "parts")
        assert self.files(tmp_path / "parts") == self.files(tmp_path / "whole")

    def test_another_seed_is_another_run_and_does_not_go_into_the_folder(self, tmp_path):
        self.go(tmp_path / "a")
        with pytest.raises(ProtocolError, match="begun with the settings"):
            self.go(tmp_path / "a", seed=2)

    def test_the_folder_opens_as_a_corpus_whose_rows_lead_to_their_humans(self, tmp_path):
        humans = toy_corpus()
        self.go(tmp_path)
        made = open_corpus(tmp_path, tmp_path)
        names = {
            R.split.source_name(row): i
            for i, row in enumerate(humans.rows)
            if row["label"] == "bonafide"
        }
        assert len(made) == len(names)
        assert len({row["file"] for row in made.rows}) == len(made)
        for i, row in enumerate(made.rows):
            human = names[row["derived_from"]]
            assert (row["label"], row["kind"]) == ("spoof", "vocoder")
            assert row["system"].removeprefix("sig2-") in R.script.NAMES
            for column in ("group", "origin", "licence"):
                assert row[column] == humans.rows[human][column]
            x, y = humans.clip(human), made.clip(i)
            assert x.shape == y.shape
            assert R.measures.likeness_db(x, y) < R.package.MOST_LIKE_DB + 0.1
            others = [humans.clip(k) for k in names.values() if k != human]
            distances = [R.measures.spectral_distance_db(z[: len(y)], y[: len(z)]) for z in others]
            assert R.measures.spectral_distance_db(x, y) < min(distances)

    def test_a_split_takes_them_to_the_side_of_their_human(self, tmp_path):
        humans = toy_corpus()
        self.go(tmp_path)
        rows = humans.rows + open_corpus(tmp_path, tmp_path).rows
        split, name = R.split, R.split.source_name
        for fold in range(split.N_FOLDS):
            found = split.split(rows, fold)
            held = {name(rows[i]) for i in found.held_out}
            assert not held & {rows[i]["derived_from"] for i in found.train}
            assert not any(rows[i]["derived_from"] for i in found.held_out)

    def test_the_table_has_a_line_for_each_method_and_the_share_that_gave_way(self, tmp_path):
        rows = self.go(tmp_path)
        rows = [*rows, {**rows[0], "asked": "world", "method": "griffinlim"}]
        rows = [*rows, {**rows[0], "asked": "world", "method": "world"}] * 2
        lines = R.script.table(rows).splitlines()
        asked = {row["asked"] for row in rows}
        assert [line.split()[0] for line in lines[1:]] == [n for n in R.script.NAMES if n in asked]
        gave_way = np.mean([r["method"] != "world" for r in rows if r["asked"] == "world"])
        world = next(line for line in lines if line.startswith("world"))
        assert world.split()[2] == f"{gave_way:.1%}"


class TestHalves:
    def test_codewords_come_from_groups_that_the_clip_is_not_of(self, monkeypatch):
        corpus = toy_corpus(12)
        heard = []

        def fit(clips, rng, **book):
            heard.append({len(clip) for clip in clips})
            return "book"

        monkeypatch.setattr(R.script, "fit_codebook", fit)
        monkeypatch.setattr(R.script, "BOOKS", ({},))
        rows = R.script.humans(corpus)
        halves = R.script.Halves(corpus, rows, 1)
        # Every clip has a length of its own, so that a length names it.
        lengths = np.diff(corpus.offsets)
        assert {halves.half(row) for row in rows} == {0, 1}
        for row in rows:
            group = corpus.rows[row]["group"]
            own = {int(lengths[i]) for i in rows if corpus.rows[i]["group"] == group}
            assert not own & heard[halves.half(row)]


def test_loud_results_are_turned_down_and_not_clipped():
    loud = np.array([0.0, 2.0, -1.0, 0.5], dtype=np.float32)
    np.testing.assert_allclose(R.store.quantised(loud) / 32_767, 0.495 * loud, atol=2e-5)
    soft = np.array([0.25, -0.5], dtype=np.float32)
    np.testing.assert_array_equal(R.store.quantised(soft), [8192, -16384])

"""What the methods are built of: spectra, phases, filters, codewords."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_toeplitz
from scipy.signal import freqz, get_window

from .conftest import RATE, R, voice


class TestSpectra:
    @settings(max_examples=20, deadline=None)
    @given(st.sampled_from([(256, 2), (400, 4), (512, 4), (1024, 8)]), st.integers(2000, 9000))
    def test_forth_and_back_is_the_clip(self, size, length):
        transform = R.spectra.Transform(size[0], size[0] // size[1], 0.54)
        x = np.random.default_rng(length).standard_normal(length).astype(np.float32)
        np.testing.assert_allclose(
            transform.inverse(transform.forward(x), length), x, atol=2e-5, rtol=0
        )

    def test_a_frame_is_the_windowed_spectrum_about_its_sample(self):
        x = voice()
        ours = R.spectra.Transform(512, 128).forward(x)[20]
        middle = 20 * 128
        direct = np.fft.rfft(x[middle - 256 : middle + 256] * get_window("hann", 512))
        np.testing.assert_allclose(ours, direct, atol=1e-4)

    def test_minimum_phase_is_that_of_a_filter_with_its_zeros_inside(self):
        response = freqz([1.0, -1.2, 0.5], worN=np.arange(257) * np.pi / 256)[1]
        found = R.spectra.minimum_phase(np.abs(response)[None].astype(np.float32))
        phase = found[0] - R.spectra.centred_phase(257)
        np.testing.assert_allclose(np.exp(1j * phase), response / np.abs(response), atol=1e-3)

    def test_griffin_lim_comes_closer_round_by_round(self):
        x, transform = voice(seconds=0.8), R.spectra.Transform(512, 128)
        magnitude = np.abs(transform.forward(x))
        start = R.spectra.random_phase(magnitude.shape, np.random.default_rng(0))

        def left(rounds, momentum=0.0):
            y = R.spectra.griffin_lim(
                magnitude, transform, len(x), start, iterations=rounds, momentum=momentum
            )
            error = np.linalg.norm(np.abs(transform.forward(y)) - magnitude)
            return error / np.linalg.norm(magnitude)

        few, many = left(2), left(20)
        assert many < few
        assert left(20, 0.9) < many

    def test_mel_triangles_hand_over_to_each_other(self):
        filters = R.spectra.mel_filters(40, 1024, low=100.0, high=7000.0)
        inside = slice(int(400 / 15.625), int(6500 / 15.625))
        np.testing.assert_allclose(filters.sum(axis=0)[inside], 1.0, atol=0.1)
        assert filters[:, :6].max() == 0
        assert filters[:, 449:].max() == 0

    @pytest.mark.parametrize("n_mels", [24, 80, 128])
    def test_no_mel_band_is_empty(self, n_mels):
        assert R.spectra.mel_filters(n_mels, 512).max(axis=1).min() > 0


class TestMagnitude:
    def test_updates_without_negatives_fit_the_bands_better(self):
        spectra = np.abs(R.spectra.Transform(512, 128).forward(voice()))
        filters = R.spectra.mel_filters(40, 512)
        mel = spectra @ filters.T
        errors = [
            np.linalg.norm(R.magnitude.from_mel(mel, filters, method=method) @ filters.T - mel)
            for method in ("pinv", "nonnegative")
        ]
        assert errors[1] < 0.5 * errors[0]

    @pytest.mark.parametrize("kind", ["random", "frozen", "zero", "minimum", "noisy", "coarse"])
    def test_damaged_phases_are_not_those_of_the_human(self, kind):
        transform = R.spectra.Transform(512, 256)
        spectrum = transform.forward(voice())
        phase = R.magnitude.damaged(kind, spectrum, transform, np.random.default_rng(1))
        assert phase.shape == spectrum.shape
        assert np.mean(np.cos(phase - np.angle(spectrum))) < 0.95

    def test_zero_phase_makes_frames_that_read_alike_both_ways(self):
        transform = R.spectra.Transform(512, 256)
        spectrum = transform.forward(voice())
        phase = R.magnitude.damaged("zero", spectrum, transform, np.random.default_rng(1))
        frame = np.fft.irfft(R.spectra.turned(np.abs(spectrum), phase)[9])
        np.testing.assert_allclose(frame[257:], frame[1:256][::-1], atol=1e-5)
        assert np.argmax(frame) == 256

    def test_smearing_over_one_bin_changes_nothing(self):
        spectrum = R.spectra.Transform(512, 128).forward(voice())
        turn = R.magnitude.smeared_phase(spectrum, 1) - np.angle(spectrum)
        np.testing.assert_allclose(np.cos(turn), 1.0, atol=1e-3)


class TestPrediction:
    @pytest.fixture
    def reflection(self):
        transform = R.spectra.Transform(320, 160)
        return R.prediction.reflection_of(transform.frames(voice()), transform, 12)

    def test_the_filter_is_the_solution_of_the_normal_equations(self, reflection):
        transform = R.spectra.Transform(320, 160)
        frame = (transform.frames(voice())[30] * transform.window).astype(float)
        lags = np.correlate(frame, frame, "full")[319 : 319 + 13]
        lags[0] = lags[0] * 1.00001 + 1e-9
        expected = solve_toeplitz(lags[:12], -lags[1:])
        np.testing.assert_allclose(
            R.prediction.predictor_of(reflection)[30, 1:], expected, atol=2e-3
        )

    def test_what_the_filter_takes_out_it_puts_back(self, reflection):
        x, a = voice(), R.prediction.predictor_of(reflection)
        residual = R.prediction.filtered(x, a, 160, inverse=False)
        assert np.std(residual) < 0.6 * np.std(x)
        # States are carried differently by both, which matters only where the filter changes.
        steady = np.repeat(a[30:31], len(a), axis=0)
        there = R.prediction.filtered(x, steady, 160, inverse=False)
        np.testing.assert_allclose(
            R.prediction.filtered(there, steady, 160, inverse=True), x, atol=1e-5
        )

    @pytest.mark.parametrize("steps", [8, 24, 48])
    def test_coarse_coefficients_stay_stable(self, reflection, steps):
        coarse = R.prediction.quantised_reflection(reflection, steps)
        assert np.abs(coarse).max() < 1
        assert len(np.unique(np.round(coarse, 9))) <= steps + 2
        poles = [np.abs(np.roots(a)).max() for a in R.prediction.predictor_of(coarse)[::10]]
        assert max(poles) < 1

    def test_levels_follow_the_model(self):
        rng = np.random.default_rng(0)
        model = np.where(np.arange(8000) < 4000, 0.1, 0.4) * rng.standard_normal(8000)
        y = R.prediction.with_envelope(rng.standard_normal(8000), model, 400)
        assert np.std(y[500:3500]) == pytest.approx(0.1, rel=0.1)
        assert np.std(y[4500:7500]) == pytest.approx(0.4, rel=0.1)


@pytest.mark.parametrize("frequency", [200.0, 443.0, 1010.0, 3333.0])
def test_the_level_of_a_sine_is_read_to_a_decibel_and_a_half(frequency):
    transform = R.spectra.Transform(1024, 128)
    x = 0.3 * np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE)
    magnitude = np.abs(transform.forward(x.astype(np.float32)))
    level = R.harmonics.harmonic_level(magnitude, np.full(len(magnitude), frequency), transform)
    assert np.abs(20 * np.log10(level[10:-10] / 0.3)).max() < 1.5


class TestCodewords:
    def test_k_means_finds_clusters_that_are_apart(self):
        rng = np.random.default_rng(2)
        middles = 10 * rng.standard_normal((4, 5)).astype(np.float32)
        points = np.repeat(middles, 50, axis=0) + 0.1 * rng.standard_normal((200, 5))
        starts = [R.quantised.k_means(points.astype(np.float32), 4, rng) for _ in range(5)]
        gaps = [np.linalg.norm(middles[:, None] - c, axis=2).min(axis=1).max() for c in starts]
        assert min(gaps) < 0.1

    def test_the_nearest_is_the_nearest(self):
        rng = np.random.default_rng(3)
        points, centres = rng.standard_normal((40, 6)), rng.standard_normal((9, 6))
        brute = np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=1)
        np.testing.assert_array_equal(R.quantised.nearest(points, centres), brute)

    def test_each_stage_leaves_less(self, codewords):
        frames, _ = codewords.log_mel(np.abs(codewords.transform.forward(voice(40))))
        left = [
            np.mean((frames - codewords.quantise(frames, stages=stages)) ** 2)
            for stages in range(4)
        ]
        assert left == sorted(left, reverse=True)
        assert left[2] < 0.8 * left[1] < 0.2 * left[0]

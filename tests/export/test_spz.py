"""SPZ files: what compression costs, and that it needs its package."""

import sys

import numpy as np
import pytest

from stavatar.errors import BackendError, InputError
from stavatar.export.commands import export_spz
from stavatar.export.splats import Splats
from stavatar.export.spz import read_spz, write_spz


def test_without_the_package_the_extra_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gsply", None)
    with pytest.raises(BackendError, match=r"stavatar\[export\]"):
        export_spz(folder, tmp_path / "a.spz", frame=0)
    assert list(tmp_path.iterdir()) == []


class TestWithGsply:
    @pytest.fixture(autouse=True)
    def _needs_gsply(self):
        pytest.importorskip("gsply", reason="needs the extra: pip install 'stavatar[export]'")

    def test_the_loss_is_that_of_the_quantisation(self, avatar, motion, tmp_path):
        before = Splats.of(avatar(motion.parameters[[4]]))
        write_spz(tmp_path / "a.spz", before)
        after = read_spz(tmp_path / "a.spz")
        np.testing.assert_allclose(after.positions, before.positions, atol=2**-20)
        smallest = -10  # the format knows nothing below 45 micrometres
        np.testing.assert_allclose(after.log_scales, before.log_scales.clip(smallest), atol=1 / 32 + 1e-6)
        np.testing.assert_allclose(after.sh[:, 0], before.sh[:, 0], atol=0.5 / (0.15 * 255) + 1e-6)
        np.testing.assert_allclose(after.sh[:, 1:], before.sh[:, 1:], atol=0.5 / 128 + 1e-6)
        aligned = np.abs((after.quaternions * before.quaternions).sum(1))
        assert aligned.min() > 1 - 1e-5
        opacity = 1 / (1 + np.exp(-np.stack([after.logits, before.logits])))
        np.testing.assert_allclose(opacity[0], opacity[1], atol=0.5 / 255 + 1e-3)

    def test_the_command_states_the_loss(self, folder, tmp_path):
        psnr = export_spz(folder, tmp_path / "a.spz", frame=4)
        assert 35 < psnr < 80
        assert (tmp_path / "a.spz").stat().st_size < 62 * 4 * 10_000 / 2

    def test_far_away_splats_get_coarser_steps_instead_of_being_cut_off(self, avatar, motion, tmp_path):
        before = Splats.of(avatar(motion.parameters[[4]]))
        far = Splats(before.positions + 100, before.log_scales, before.quaternions, before.logits, before.sh)
        write_spz(tmp_path / "a.spz", far)
        np.testing.assert_allclose(read_spz(tmp_path / "a.spz").positions, far.positions, atol=2**-16)

    def test_a_damaged_file_is_named(self, tmp_path):
        (tmp_path / "a.spz").write_bytes(b"not gzip")
        with pytest.raises(InputError, match="cannot be read as SPZ"):
            read_spz(tmp_path / "a.spz")

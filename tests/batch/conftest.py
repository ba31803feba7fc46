"""A tracked sequence on disk, and jobs."""

from __future__ import annotations

import pytest
from batch_settings import TINY

from stavatar.batch.manifest import Job
from stavatar.sequence import write_sequence


@pytest.fixture(scope="session")
def talk(small_sequence, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sequences") / "talk"
    write_sequence(small_sequence, folder)
    return folder


@pytest.fixture
def job():
    """Make a job that differs from a usual one in what is given."""

    def make(name="anna", task="train", source="/data/talk", out="/out/anna", **changes):
        fields = {"line": 2, "subject": name, "method": "cpu", "preset": "cpu", "settings": TINY}
        return Job(name=name, task=task, input=str(source), out=str(out), **fields | changes)

    return make

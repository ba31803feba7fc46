"""One rendered person for all tests: painting takes seconds."""

from __future__ import annotations

import dataclasses

import pytest

from stavatar.head import HeadModel, load_embedded_head
from stavatar.synth import Renderer, Subject


@pytest.fixture(scope="session")
def head() -> HeadModel:
    return load_embedded_head()


@pytest.fixture(scope="session")
def renderer(head: HeadModel) -> Renderer:
    return Renderer(head, Subject.random(head, 1))


@pytest.fixture(scope="session")
def expressive(head: HeadModel) -> Renderer:
    """The same person with a finely painted mouth, and wrinkles."""
    return Renderer(head, dataclasses.replace(Subject.random(head, 1), fine_mouth=True, wrinkles=1.0))

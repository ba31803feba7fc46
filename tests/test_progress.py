"""What is said to the user is said as it is."""

from __future__ import annotations

import pytest

from stavatar.progress import remark, warn


@pytest.mark.parametrize("say", [remark, warn])
def test_names_of_files_are_not_dressed_up(say, capsys):
    say("clips/:car:/[bold]a.mp4 is small")
    assert "clips/:car:/[bold]a.mp4 is small" in capsys.readouterr().err

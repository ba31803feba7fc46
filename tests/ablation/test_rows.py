"""Rows of an ablation: which ones a command names, and what they change."""

import pytest

from stavatar import config
from stavatar.ablation.rows import FULL, IMPROVEMENTS, PAPER, choose_rows, own_row
from stavatar.errors import InputError


@pytest.mark.parametrize("row", PAPER + IMPROVEMENTS, ids=lambda row: row.name)
def test_every_row_changes_exactly_its_settings_of_the_paper_preset(row):
    base = config.to_dict(config.preset("paper"))
    changed = config.to_dict(config.override(config.preset("paper"), list(row.settings)))
    found = {
        f"{section}.{name}"
        for section, fields in base.items()
        if isinstance(fields, dict)
        for name, value in fields.items()
        if changed[section][name] != value
    }
    assert found == {setting.partition("=")[0] for setting in row.settings}


def test_all_improvements_are_the_single_ones_together():
    *single, together = IMPROVEMENTS
    singly = {setting for row in single for setting in row.settings}
    assert set(together.settings) == singly - {"network.reference=uv"}  # one reference at a time: the mean


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("", ["full"]),
        ("paper", ["full", *(row.name for row in PAPER)]),
        ("all", ["full", *(row.name for row in PAPER + IMPROVEMENTS)]),
        ("no_ftc, no_adc,full", ["full", "no_ftc", "no_adc"]),
        ("no_adc,paper", ["full", "no_adc", *(row.name for row in PAPER if row.name != "no_adc")]),
    ],
)
def test_rows_are_named_by_group_or_one_by_one_each_once_and_full_first(names, expected):
    assert [row.name for row in choose_rows(names, [])] == expected


def test_a_row_of_ones_own_may_have_lists_as_values():
    row = own_row("mine:pose.passes=[0.1,0.4], network.width=2")
    assert (row.name, row.group) == ("mine", "own")
    assert row.settings == ("pose.passes=[0.1,0.4]", "network.width=2")
    assert choose_rows("no_adc", ["mine:network.width=2"])[-1].name == "mine"
    assert choose_rows("", ["mine:network.width=2"])[0] is FULL


@pytest.mark.parametrize(
    ("names", "own", "message"),
    [
        ("no_hair", [], "--rows no_hair: expected paper, improvements, all, or some of full, no_soft_binding"),
        ("", ["network.width=2"], "expected name:section.field=value"),
        ("", ["mine:"], "expected name:section.field=value"),
        ("", ["../mine:network.width=2"], "made of letters"),
        ("", ["sequence:network.width=2"], "is none of"),
        ("", ["no_adc:network.width=2"], "there is a row no_adc already"),
        ("", ["mine:network.width=2", "mine:network.width=3"], "there is a row mine already"),
    ],
)
def test_rows_that_cannot_be(names, own, message):
    with pytest.raises(InputError, match=message):
        choose_rows(names, own)

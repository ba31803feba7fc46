"""Configurations: presets, overrides, YAML."""

import dataclasses

import pytest

from stavatar import config
from stavatar.errors import InputError


@pytest.mark.parametrize("name", list(config.PRESETS))
def test_every_preset_survives_a_round_trip_through_yaml(name, tmp_path):
    before = config.preset(name)
    config.save(before, tmp_path / "config.yaml")
    assert config.load(tmp_path / "config.yaml") == before


def test_overrides_change_one_field_and_convert_its_type():
    changed = config.override(
        config.preset("cpu"), ["training.lr_network=2e-4", "capture.max_frames=null", "pose.passes=[0.5]"]
    )
    assert changed.training.lr_network == 2e-4
    assert changed.capture.max_frames is None
    assert changed.pose.passes == (0.5,)
    expected = dataclasses.replace(config.preset("cpu").training, lr_network=2e-4)
    assert changed.training == expected


@pytest.mark.parametrize(
    ("assignment", "complaint"),
    [
        ("training.epochs", "section.field=value"),
        ("training.epoch=3", "section.field=value"),
        ("preset.x=3", "section.field=value"),
        ("training.epochs=many", "type float"),
        ("training.epochs=.nan", "epochs must be a finite number"),
        ("training.epochs=.inf", "epochs must be a finite number"),
        (f"capture.size={10**400}", "size must be a finite number, or a whole one of at most 63 bits"),
        ("training.batch=1.5", "type int"),
        ("training.batch=true", "type int"),
        ("network.encoder=resnet", "one of unet, free"),
        ("pose.passes=0.5", "a list"),
        ("pose.passes=[1.5]", r"pose.passes must be in \[0, 1\]"),
        ("pose.decay=0", r"pose.decay must be in \(0, 1\]"),
        ("training.batch=0", "training.batch must be in"),
        ("training.steps=0", "training.steps must be in"),
        ("training.lr_position_final=0", "training.lr_position_final must be in"),
        ("training.lr_network=-1", "training.lr_network must be in"),
        ("gaussians.opacity=1.0", "gaussians.opacity must be in"),
        ("gaussians.sh_degree=4", "gaussians.sh_degree must be in"),
        ("capture.size=10", "capture.size must be in"),
        ("network.uv_size=100000", "network.uv_size must be in"),
    ],
)
def test_a_wrong_override_is_named(assignment, complaint):
    with pytest.raises(InputError, match=complaint):
        config.override(config.preset("cpu"), [assignment])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("training: 3", "mapping"),
        ("training: {lr: 3}", "'lr' is not a setting"),
        ("[1, 2", "not YAML"),
        ("- 1", "mapping"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_a_wrong_file_is_named(text, complaint, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=complaint):
        config.load(tmp_path / "config.yaml")


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(InputError, match="paper, cpu"):
        config.preset("huge")

"""What YAML would drop without a word, and hints that help."""

from pathlib import Path

import pytest
import tiny

BLOCK = "trainer:\n  max_steps: 2\n"
DEEP = """model:
  class_path: DDPM
  init_args:
    unet: {image_size: 16}
    sampler:
      steps: 3
      method: ddim
      steps: 4
"""
LIST = """trainer:
  callbacks:
  - class_path: a
  - class_path: b
    init_args: {x: 1, y: 2, x: 3}
"""


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (BLOCK + "ema: {decay: 0.9}\n" + BLOCK, "trainer is given twice, in lines 1 and 4"),
        (BLOCK * 3, "trainer is given 3 times, in lines 1, 3 and 5"),
        ("trainer: {max_steps: 2, max_steps: 3}", "trainer.max_steps is given twice, in lines 1 and 1"),
        (DEEP, "model.init_args.sampler.steps is given twice, in lines 6 and 8"),
        (LIST, "trainer.callbacks.1.init_args.x is given twice, in lines 5 and 5"),
    ],
)
def test_a_key_that_is_given_twice_is_refused(tenshot: tiny.Run, tmp_path: Path, text: str, complaint: str):
    path = tmp_path / "twice.yaml"
    path.write_text(text)
    whole = tiny.config_file(tmp_path)
    for words in (["--config", path], ["--config", whole, "--config", path], [f"--config={path}"], ["--model", path]):
        found = tenshot("fit", *words, "--print_config").complaint
        assert found == f"{path}: {complaint}, of which YAML takes only the last: make one of them"


def test_an_alias_and_two_files_are_no_repetition(tenshot: tiny.Run, tmp_path: Path):
    path = tmp_path / "alias.yaml"
    path.write_text("trainer: &t {max_steps: 5}\nema: {decay: 0.5}\n")
    outcome = tenshot("fit", "--config", tiny.config_file(tmp_path), "--config", path, "--print_config")
    assert outcome.status == 0, outcome.err
    assert "max_steps: 5" in outcome.out
    assert "enable_progress_bar: false" in outcome.out  # of the first file


@pytest.mark.parametrize("command", ["fit", "test"])
def test_options_under_the_name_of_a_command(tenshot: tiny.Run, tmp_path: Path, command: str):
    path = tmp_path / "nested.yaml"
    path.write_text(f"{command}:\n  model: {{class_path: DDPM}}\n")
    line = f"{path}: its options are nested under {command}: take out that line and the indentation below it"
    assert tenshot("fit", "--config", path).complaint == line


@pytest.mark.parametrize(
    ("words", "option", "classes"),
    [
        (
            ["--model", "DDPM", "--model.stylegan2.latent_dim", "8"],
            "--model.stylegan2.latent_dim", "StyleGAN2, CDC, MixDL",
        ),
        (["--data", "FewShot", "--data.num_images", "3"], "'num_images' in the configuration", "SyntheticFaces"),
        (
            ["--config", "model: {class_path: DDPM, init_args: {optimizer_g: GANAdam}}"],
            "'optimizer_g' in the configuration", "StyleGAN2, CDC, MixDL",
        ),
        (
            ["--config", "model: {class_path: DDPM, unet: {image_size: 16}}"],
            "'unet.image_size' in the configuration", "DDPM, DDPMPA, SuperResolution",
        ),
    ],
)  # fmt: skip
def test_a_hint_is_never_the_option_that_was_given(
    tenshot: tiny.Run, tmp_path: Path, words: list[str], option: str, classes: str
):
    (tmp_path / "data.yaml").write_text("data: {class_path: SyntheticFaces, init_args: {image_size: 16}}")
    if words[0] == "--config":
        (tmp_path / "given.yaml").write_text(words[1])
        words = ["--config", str(tmp_path / "given.yaml")]
    group = "data" if classes == "SyntheticFaces" else "model"
    level = "" if option.startswith("--") else ", under init_args in a file"
    line = f"unknown option {option}: it is an option of {classes}, which --{group} chooses{level}"
    assert tenshot("fit", "--config", tmp_path / "data.yaml", *words).complaint == line

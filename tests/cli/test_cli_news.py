"""News and warnings: where the command line prints them, and what a program that uses the library hears."""

import logging
import os
import subprocess
import sys

from typer.testing import CliRunner

from specenhance.cli import app
from specenhance.cli.console import told
from specenhance.training import save_recipe

LIBRARY = """
import sys
from pathlib import Path
from specenhance.training import load_recipe
from specenhance.training.run import train
train(load_recipe(sys.argv[1]), Path(sys.argv[2]), device="cpu")
"""
WARNING = "the test accuracy is no better than that of always predicting"


def test_the_command_prints_news_on_standard_output_and_warnings_on_standard_error(quick, tmp_path):
    save_recipe(quick.replace(epochs=1, lr=1e-9), tmp_path / "r.toml")
    command = ["train", "--recipe", str(tmp_path / "r.toml"), "--out", str(tmp_path / "run"), "--device", "cpu"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "epoch   1/1" in result.stdout
    assert WARNING not in result.stdout
    assert f"warning: {WARNING}" in result.stderr
    assert "epoch   1/1" not in result.stderr


def test_a_program_hears_warnings_only_unless_it_asks_for_news(quick, tmp_path):
    save_recipe(quick.replace(epochs=1, lr=1e-9), tmp_path / "r.toml")
    command = [sys.executable, "-c", LIBRARY, str(tmp_path / "r.toml"), str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert WARNING in done.stderr
    assert "epoch   1/1" not in done.stderr


def test_news_is_one_visible_line_and_a_warning_is_shown_once(capsys):
    logger = logging.getLogger("specenhance.somewhere")
    with told():
        logger.info("a\n\x1b[31mname [bold] :dog:")
        for _ in range(2):
            logger.warning("odd")
        logger.debug("a detail")
    logger.info("after the command")
    shown = capsys.readouterr()
    assert shown.out == "a\\n\\x1b[31mname [bold] :dog:\n"
    assert shown.err == "warning: odd\n"

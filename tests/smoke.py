"""What an installed specenhance must do, wherever it is installed: import, make a model, train, store, export, predict.

    python smoke.py FOLDER [--quick]

FOLDER takes what it writes. It needs the extras train and export. With ``--quick`` nothing is trained.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path


def command(*words: object, folder: Path) -> str:
    """Run the console script that is installed beside this Python, in a folder without the source tree."""
    script = shutil.which("specenhance", path=sysconfig.get_path("scripts"))
    assert script, "the console script is not installed"
    done = subprocess.run([script, *map(str, words)], capture_output=True, text=True, encoding="utf-8", cwd=folder)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def main(folder: Path, quick: bool) -> None:
    """Do it all, and say what was used."""
    import timm
    import torch

    import specenhance
    from specenhance.training.recipe import paper_recipe

    assert specenhance.__version__ == version("specenhance")
    assert paper_recipe("esc50", root=".").frontend == "tfe4"
    backbone = timm.create_model("test_resnet", in_chans=1, num_classes=2)
    features = specenhance.KaldiFbank(frames=32, num_mel_bins=32)
    model = specenhance.with_frontend(backbone, "tfe4", features=features).eval()
    model.save_pretrained(folder / "stored")  # needs the template of a model card
    again = specenhance.FrontendModel.from_pretrained(folder / "stored").eval()
    sound = torch.linspace(-1, 1, 8000)[None]
    assert torch.equal(again(sound), model(sound))

    assert command("--version", folder=folder).strip() == specenhance.__version__
    module = [sys.executable, "-m", "specenhance", "--version"]
    said = subprocess.run(module, capture_output=True, text=True, check=True, cwd=folder).stdout
    assert said.strip() == specenhance.__version__
    if not quick:
        train_and_use(folder)
    print(f"specenhance {specenhance.__version__} of {Path(specenhance.__file__).parent}: all steps work")


def train_and_use(folder: Path) -> None:
    """Train a model on built-in sounds, export it, and use it without PyTorch."""
    import numpy as np
    import soundfile

    settings = [
        "data_args.clips_per_class=2",
        "frames=32",
        "bins=32",
        "batch_size=10",
        "time_mask=4",
        "freq_mask=4",
        "shift=2",
    ]
    run = folder / "run"
    command(
        "train", "--data", "synthetic", "--backbone", "test_resnet", "--frontend", "tfe1", "--epochs", 1,
        "--device", "cpu", "--out", run, *(word for setting in settings for word in ("--set", setting)),
        folder=folder,
    )  # fmt: skip
    command("export", run, folder=folder)
    soundfile.write(folder / "a.wav", np.sin(np.arange(16000) / 10), 16000)
    said = command("predict", "--model", run / "model.onnx", folder / "a.wav", folder=folder)
    assert "%" in said


if __name__ == "__main__":
    place = Path(sys.argv[1]).resolve()
    place.mkdir(parents=True, exist_ok=True)
    main(place, quick=sys.argv[2:] == ["--quick"])

"""Fine-tune a backbone with ImageNet weights on ESC-50, behind a front end, from Python.

    python examples/finetune_esc50.py ESC-50-master
    python examples/finetune_esc50.py ESC-50-master --backbone local-dir:FOLDER     # weights that timm's save_for_hf wrote
    python examples/finetune_esc50.py ESC-50-master --no-pretrained --backbone test_resnet --epochs 1    # tries all steps

ESC-50-master is a folder with ``meta/esc50.csv`` and ``audio/``. One fold tests, and the others train. Weights of a name come
from the hub. The run folder holds all that ``specenhance train`` writes. At the end the model classifies a test clip.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from specenhance import load_model
from specenhance.data import ESC50
from specenhance.inference import predict
from specenhance.training import recipe_for, train


def main() -> None:
    """Train one fold, and use the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="a name of timm's, or local-dir:FOLDER")
    parser.add_argument("--frontend", default="tfe4")
    parser.add_argument("--no-pretrained", action="store_true", help="start from random weights")
    parser.add_argument("--fold", type=int, default=1, help="the fold that tests, 1 to 5")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=1e-3, help="the highest learning rate of the one cycle")
    parser.add_argument("--clips-per-class", type=int, default=0, help="train on so many clips of each class; 0 is all")
    parser.add_argument("--frames", type=int, default=498, help="spectrogram frames of 10 ms; clips are cut to them")
    parser.add_argument("--out", type=Path, default=Path("esc50"), help="the run folder, which must not exist")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # what the library tells
    try:
        recipe = recipe_for(
            "esc50",
            root=options.root,
            fold=options.fold,
            backbone=options.backbone,
            pretrained=not options.no_pretrained,
            frontend=options.frontend,
            epochs=options.epochs,
            lr=options.lr,
            label_smoothing=0.1,
            frames=options.frames,
            time_mask=options.frames // 5,
            clips_per_class=options.clips_per_class,
        )
        result = train(recipe, options.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    model = load_model(options.out)
    clips = ESC50(options.root, options.fold, train=False)
    print(f"fold {options.fold}: {result['test_accuracy']:.1%} of {len(clips)} test clips")
    found = predict(model, clips.paths[0], top=3)
    named = ", ".join(f"{model.classes[label]} {probability:.1%}" for label, probability in found)
    print(f"{clips.paths[0].name} is {clips.classes[clips.labels[0]]}: {named}")


if __name__ == "__main__":
    main()

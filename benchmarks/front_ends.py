"""Do the front ends help? One backbone with each of them on real speech, several seeds, tested clean, noisy, soft and loud.

    python benchmarks/front_ends.py train ROOT --out DIR
    python benchmarks/front_ends.py report ROOT --out DIR

The protocol, fixed before the first run:

- Data: a folder laid out as Speech Commands V2; its lists say what validates and what tests.
- Model: mobilenetv3_small_050 from scratch behind identity, tfa, tfe1, tfe2, tfe4 and tfe8, 128 frames x 128 bins.
- Budget: EPOCHS epochs of the data set's default recipe for each, the epoch that is best on the validation clips is tested.
- Seeds 0 to 4. A seed gives every front end the same backbone weights, order of clips and augmentation: runs are paired by it.
- Result: test accuracy. Mean and 95% interval over seeds (Student's t); paired difference to identity with its 95% interval.
- Test: two-sided paired t-test of each front end against identity, Holm's correction over the five, at 0.05.
- Robustness, not tested for significance: the same models and clips with white noise added at 20, 10, 5 and 0 dB below a
  clip's own power (noise seeded by the clip, the same for all models), and with the level changed by +12 and -12 dB.

Runs are kept in DIR and resumed; two processes may share the work by --seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from specenhance.training.recipe import Recipe, recipe_for
from specenhance.training.run import resume, train
from specenhance.training.store import RECIPE

FRONTENDS = ("identity", "tfa", "tfe1", "tfe2", "tfe4", "tfe8")
SEEDS = range(5)
EPOCHS = 6
BACKBONE = "mobilenetv3_small_050"


def recipe(root: Path, frontend: str, seed: int) -> Recipe:
    """Give the recipe of one run."""
    return recipe_for(
        "speech_commands", root=root.resolve(), backbone=BACKBONE, frontend=frontend, epochs=EPOCHS, seed=seed
    )


def folder(out: Path, frontend: str, seed: int) -> Path:
    """Say where one run is kept."""
    return out / f"{frontend}-{seed}"


def train_all(root: Path, out: Path, frontends: list[str], seeds: list[int]) -> None:
    """Train what is not trained yet, seed by seed, so that an early stop leaves whole pairs."""
    for seed in seeds:
        for frontend in frontends:
            run = folder(out, frontend, seed)
            if (run / RECIPE).is_file():
                resume(run, device="cpu")
            else:
                train(recipe(root, frontend, seed), run, device="cpu")


def main() -> None:
    """Train, or report what is trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("train", "report"))
    parser.add_argument("root", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frontends", nargs="+", default=list(FRONTENDS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    arguments = parser.parse_args()
    if arguments.step == "train":
        train_all(arguments.root, arguments.out, arguments.frontends, arguments.seeds)


if __name__ == "__main__":
    main()

"""A training loop in plain PyTorch: features, a front end and one of timm's backbones on labelled sounds.

    python examples/quickstart.py                # built-in sounds, a minute on two cores
    python examples/quickstart.py my_sounds      # my_sounds/LABEL/*.wav, or another format that the library reads

It prints the loss of each epoch, and at the end the accuracy on the test clips.
"""

from __future__ import annotations

import argparse

import timm
import torch
from torch.utils.data import DataLoader

from specenhance import KaldiFbank, with_frontend
from specenhance.data import AudioDataset, AudioFolder, SyntheticSounds, collate


def train(clips: AudioDataset, test: AudioDataset, epochs: int, backbone: str) -> float:
    """Train a model, and give its accuracy on the test clips."""
    network = timm.create_model(backbone, in_chans=1, num_classes=len(clips.classes))
    model = with_frontend(network, "tfe4", features=KaldiFbank(frames=98))  # waveforms of a second to logits
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(epochs):
        model.train()
        losses = []
        for batch in DataLoader(clips, batch_size=32, shuffle=True, collate_fn=collate):
            loss = torch.nn.functional.cross_entropy(model(batch.waveform), batch.label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}: loss {sum(losses) / len(losses):.3f}", flush=True)
    model.eval()
    right = 0
    with torch.no_grad():
        for batch in DataLoader(test, batch_size=32, collate_fn=collate):
            right += (model(batch.waveform).argmax(1) == batch.label).sum().item()
    return right / len(test)


def main() -> None:
    """Read the arguments, train, and print the accuracy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", help="folder of sounds; the default is the built-in data set")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--backbone", default="mobilenetv3_small_050", help="a name of timm's")
    options = parser.parse_args()
    torch.manual_seed(0)
    try:
        if options.root:
            clips, test = (AudioFolder(options.root, split=split) for split in ("train", "test"))
        else:
            clips, test = SyntheticSounds("train", clips_per_class=64), SyntheticSounds("test", clips_per_class=20)
        accuracy = train(clips, test, options.epochs, options.backbone)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: timm has no such model
        parser.error(str(error))
    print(f"accuracy on {len(test)} test clips: {accuracy:.1%} (guessing: {1 / len(test.classes):.1%})")


if __name__ == "__main__":
    main()

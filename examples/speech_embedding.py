"""Google's speech embedding as one ONNX file from waveforms, which may teach: ``specenhance train --teacher onnx:FILE.onnx``.

    python examples/speech_embedding.py MODELS speech_embedding.onnx

MODELS is a folder with ``melspectrogram.onnx`` and ``embedding_model.onnx``. The PyPI package openwakeword 0.5.1 has them in
``openwakeword/resources/models`` (Apache-2.0). The new file takes waveforms (batch, 16000) at 16 kHz, in [-1, 1]. It gives the
embeddings of three windows of 76 frames, 96 values each: (batch, 288).

With ``--values SOUNDS FILE.npz`` it also computes the embedding of each clip of a folder, for ``--teacher embedding:FILE.npz``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import soundfile
from onnx import TensorProto, compose, helper, numpy_helper

RATE, WINDOW, HOP, WINDOWS, BINS, VALUES = 16000, 76, 8, 3, 32, 96


def constants(**values: object) -> list[onnx.TensorProto]:
    """Make the constants of a graph."""
    return [numpy_helper.from_array(np.array(value), name) for name, value in values.items()]


def link(
    name: str, nodes: list[onnx.NodeProto], shapes: tuple[list, list], like: onnx.ModelProto, **of: object
) -> onnx.ModelProto:
    """Make a model of a few nodes, from ``x`` to ``y``."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in zip("xy", shapes, strict=True))
    graph = helper.make_graph(nodes, name, [x], [y], constants(**of))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=like.ir_version)


def joined(models: Path) -> onnx.ModelProto:
    """Join both models, with what lies before, between and after."""
    mel, embed = (onnx.load(models / f"{name}.onnx") for name in ("melspectrogram", "embedding_model"))
    node = helper.make_node
    before = link(
        "before", [node("Mul", ["x", "scale"], ["y"])], (["batch", RATE], ["batch", RATE]), mel, scale=np.float32(32767)
    )
    cuts = [node("Slice", ["scaled", f"start{i}", f"end{i}", "axis"], [f"window{i}"]) for i in range(WINDOWS)]
    between = link(
        "between",
        [
            node("Div", ["x", "ten"], ["tenth"]),
            node("Add", ["tenth", "two"], ["scaled"]),
            *cuts,
            node("Concat", [f"window{i}" for i in range(WINDOWS)], ["windows"], axis=1),
            node("Reshape", ["windows", "shape"], ["y"]),
        ],
        (["batch", 1, "frames", BINS], ["windows_of_all", WINDOW, BINS, 1]),
        mel,
        ten=np.float32(10), two=np.float32(2), axis=[2], shape=[-1, WINDOW, BINS, 1],
        **{f"start{i}": [HOP * i] for i in range(WINDOWS)}, **{f"end{i}": [HOP * i + WINDOW] for i in range(WINDOWS)},
    )  # fmt: skip
    after = link(
        "after",
        [node("Reshape", ["x", "shape"], ["y"])],
        (["windows_of_all", 1, 1, VALUES], ["batch", WINDOWS * VALUES]),
        mel,
        shape=[-1, WINDOWS * VALUES],
    )
    model = compose.add_prefix(before, "before_")
    for name, part in (("mel_", mel), ("between_", between), ("embed_", embed), ("after_", after)):
        part.ir_version = model.ir_version
        part = compose.add_prefix(part, name)
        ends = [(model.graph.output[0].name, part.graph.input[0].name)]
        model = compose.merge_models(model, part, io_map=ends)
    helper.set_model_props(model, {"sample_rate": json.dumps(RATE)})
    return model


def values(model: Path, sounds: Path, out: Path) -> None:
    """Compute the embedding of each clip of a folder."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    paths = sorted(path for path in sounds.rglob("*") if path.suffix in (".wav", ".flac"))
    found = []
    for path in paths:
        sound, rate = soundfile.read(path, dtype="float32")
        if rate != RATE or sound.ndim != 1:
            raise SystemExit(f"{path}: {rate} Hz, {sound.shape}: expected 16 kHz and one channel")
        sound = np.pad(sound, (0, max(0, RATE - len(sound))))[:RATE]
        found.append(session.run(None, {session.get_inputs()[0].name: sound[None]})[0][0])
    names = [path.relative_to(sounds).as_posix() for path in paths]
    np.savez_compressed(out, names=names, values=np.array(found, dtype=np.float16))
    print(f"{out}: {len(names):,} clips, {WINDOWS * VALUES} values each")


def main() -> None:
    """Write the model, and the values of the clips if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, help="folder of the two files")
    parser.add_argument("out", type=Path, help="the file that is written")
    parser.add_argument("--values", nargs=2, type=Path, metavar=("SOUNDS", "FILE.npz"))
    options = parser.parse_args()
    try:
        onnx.save(joined(options.models), options.out)
        if options.values:
            values(options.out, *options.values)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

"""``embed`` and ``search``: what a model makes of sounds before it names a class, and sounds that are like a given one."""

from __future__ import annotations

import csv
import json
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from specenhance.cli import options
from specenhance.cli.console import say, told
from specenhance.cli.train import require_run
from specenhance.cli.working import ON_A_GPU, fail_for, progress_bar, say_done

__all__ = ["COMMANDS", "embed", "search"]


def embed(
    run: options.Run,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Sound files, folders of them, and patterns such as '*/*.wav'."),
    ],
    out: Annotated[
        Path, typer.Option(help="The file to write: .parquet, .npz or .npy. A command that was killed goes on with it.")
    ],
    per: Annotated[
        str,
        typer.Option(
            metavar="window|file", help="Write a row for each window, or for each file the mean of its windows."
        ),
    ] = "window",
    window: Annotated[
        float | None, typer.Option(help="Length of a window, in seconds. The default is that of the training clips.")
    ] = None,
    hop: Annotated[
        float | None, typer.Option(help="Time from one window to the next, in seconds. The default is the window.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Number of windows that are computed together.")] = 32,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Number of processes. The default is one for every two cores.")
    ] = None,
    allow_truncated: options.AllowTruncated = False,
    device: options.DeviceName = "auto",
    progress: options.Progress = options.TERMINAL,
) -> None:
    """Write embeddings of sounds: the features that a run's classifier reads."""
    with told():
        if run.suffix == ".onnx" and run.is_file():
            raise ValueError(f"{run}: an exported model gives probabilities only; give the run folder that it is from")
        require_run(run)
        from specenhance._choices import require
        from specenhance._files import check_output
        from specenhance.detection.embeddings import Per, check_suffix, embed_sounds
        from specenhance.detection.predicting import errors_path
        from specenhance.detection.sounds import find_sounds

        require("--per", per, Per)
        kind: Per = "file" if per == "file" else "window"
        check_suffix(out)
        check_output(out)
        sounds = find_sounds(files)
        from specenhance.inference import chosen_device
        from specenhance.training.opened import fingerprint, open_embedding

        chosen = chosen_device(device)
        began = time.perf_counter()
        with progress_bar(len(sounds), progress) as tell:
            done = embed_sounds(
                partial(open_embedding, run, chosen),
                sounds,
                out,
                about={"run": str(run.resolve()), "model": fingerprint(run)},
                per=kind,
                window=window,
                hop=hop,
                batch_size=batch_size,
                jobs=jobs or (None if chosen == "cpu" else ON_A_GPU),
                allow_truncated=allow_truncated,
                told=tell,
            )
        took = time.perf_counter() - began
        say_done(out, "embeddings", done.rows, done.sounds - done.errors, done.seconds, tell.seconds, took)
        fail_for(done.errors, done.sounds, errors_path(out))


def search(
    embeddings: Annotated[Path, typer.Argument(metavar="EMBEDDINGS", help="A file that 'specenhance embed' wrote.")],
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="A sound file.")],
    top: Annotated[int, typer.Option(min=1, help="Number of neighbours.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Write them to a table, .csv or .jsonl.")] = None,
    run: Annotated[
        Path | None, typer.Option(help="The run that made the embeddings, if it is not where it was.")
    ] = None,
    device: options.DeviceName = "auto",
) -> None:
    """Find the stretches of sound that are most like a clip, by the cosine between embeddings."""
    with told():
        from specenhance._files import atomic_path, check_output
        from specenhance.annotations.annotation import exact
        from specenhance.annotations.csv_table import armed
        from specenhance.detection.embeddings import embed_clip, nearest, read_embeddings

        if out is not None:
            if out.suffix not in (".csv", ".jsonl"):
                raise ValueError(f"{out}: expected a name that ends in .csv or .jsonl")
            check_output(out)
        if not clip.is_file():
            raise FileNotFoundError(f"{clip}: no such audio file; give one sound file")
        found = read_embeddings(embeddings)
        made_by = run or Path(found.about["run"])
        require_run(made_by)
        from specenhance.inference import chosen_device
        from specenhance.training.opened import fingerprint, open_embedding

        if fingerprint(made_by) != found.about["model"]:
            raise ValueError(
                f"{embeddings}: was made by another model than that of {made_by}; give its run by --run, or embed again"
            )
        query = embed_clip(open_embedding(made_by, chosen_device(device)), str(clip), found.about)
        neighbours = nearest(found, query, top)
        if out is None:
            for row, similarity in neighbours:
                say(f"{row.file}: {row.start:.2f} to {row.end:.2f} s, similarity {similarity:.3f}")
            return
        names = ("file", "start", "end", "similarity")
        rows = [(*one.row, round(one.similarity, 6)) for one in neighbours]
        with atomic_path(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            if out.suffix == ".csv":
                writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
                writer.writerow(names)
                writer.writerows([armed(exact(row[0], "file", "CSV")), *row[1:]] for row in rows)
            else:
                file.writelines(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
        say(out)


COMMANDS = {"embed": embed, "search": search}

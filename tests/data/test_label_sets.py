"""Data sets whose clips have any number of classes: a folder's tables, FSD50K and AudioSet as they are published."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from specenhance.data import FSD50K, AudioFolder, AudioSet, CachedWaveforms, collate, open_data
from specenhance.data.base import AudioDataset, joined
from specenhance.data.classes import with_classes
from specenhance.data.few import few
from specenhance.data.groups import fold_split
from specenhance.data.ready import ReadyDataset, ready_splits


def sounds(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        soundfile.write(folder / name, np.full(800, 0.1 * i), 16000)


def folder(tmp_path, table, **options):
    sounds(tmp_path / "sounds", *(f"{i}.wav" for i in range(4)))
    (tmp_path / "labels.csv").write_text(table)
    return AudioFolder(tmp_path / "sounds", csv=tmp_path / "labels.csv", split="train", multi_label=True, **options)


LABELS = (
    "path,label,split,site\n0.wav,rain;bird,train,a\n1.wav,,train,a\n2.wav, bird ; bird,train,b\n3.wav,frog,test,b\n"
)
COLUMNS = "path,bird,frog,rain,split,site\n0.wav,1,0,1,train,a\n1.wav,0,0,0,train,a\n2.wav,1,0,0,train,b\n3.wav,0,1,0,test,b\n"


@pytest.mark.parametrize("table", [LABELS, COLUMNS], ids=["labels", "columns"])
def test_both_forms_of_a_table_are_one_data_set(tmp_path, table):
    data = folder(tmp_path, table)
    assert data.classes == ["bird", "frog", "rain"]
    assert data.labels == [(0, 2), (), (0,)]
    assert data.groups == {"site": ["a", "a", "b"]}
    assert data[0][1].tolist() == [1, 0, 1]
    assert data[1][1].tolist() == [0, 0, 0]
    assert collate([data[0], data[1]]).label.tolist() == [[1, 0, 1], [0, 0, 0]]


def test_a_table_without_labels_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"no column 'label', and none that has only 0 and 1; expected labels such as a;b"
    ):
        folder(tmp_path, "path,site\n0.wav,a\n")


def test_without_the_flag_a_semicolon_is_a_part_of_a_name(tmp_path):
    sounds(tmp_path / "sounds", "0.wav")
    (tmp_path / "labels.csv").write_text("path,label,split\n0.wav,rain;bird,train\n")
    data = AudioFolder(tmp_path / "sounds", csv=tmp_path / "labels.csv", split="train")
    assert (data.classes, data.labels) == (["rain;bird"], [0])


def test_a_label_that_the_model_does_not_know_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"line 2: label 'rain' of 0\.wav is none of the classes bird, frog"):
        folder(tmp_path, LABELS, classes=["bird", "frog"])


def test_parts_keep_all_classes(tmp_path):
    data = folder(tmp_path, LABELS)
    assert data.subset([2, 0]).labels == [(0,), (0, 2)]
    assert data.renumbered(["rain", "bird", "frog"], [1, 2, 0]).labels == [(0, 1), (), (1,)]
    assert with_classes(data, ["rain", "bird", "frog"], "the model").labels == [(0, 1), (), (1,)]
    assert CachedWaveforms(data)[0][1].tolist() == [1, 0, 1]
    assert joined([data, data]).labels == data.labels
    three = AudioDataset(["a"], [(0,), (), (0,)], [Path(name) for name in "xyz"])
    three.groups = {"site": ["x", "y", "z"]}
    assert fold_split([three], "site", 3, 1, "test").labels == [(0,)]


def test_few_clips_have_each_class_often_enough():
    labels = [(0,), (0, 1), (0,), (1,), (), (), (2,)] * 5
    chosen = few(AudioDataset(["a", "b", "c"], labels, [Path(f"{i}.wav") for i in range(len(labels))]), 3)
    of = [sum(k in label for label in chosen.labels) for k in range(3)]
    assert all(count >= 3 for count in of)
    assert len(chosen) < 15
    assert sum(label == () for label in chosen.labels) == 3


def test_ready_data_takes_numbers_or_a_vector():
    wave = np.zeros(800, "float32")
    items = [(wave, [2, 0]), (wave, torch.tensor([0, 1, 0])), (wave, np.zeros(3)), (wave, ())]
    data = ReadyDataset(items, ["a", "b", "c"])
    assert data.multi_label
    assert data.labels == [(0, 2), (1,), (), ()]
    with pytest.raises(TypeError, match=r"expected 0 or 1 for each class"):
        ReadyDataset([(wave, np.array([0.5, 1]))], ["a", "b"])
    with pytest.raises(TypeError, match="some labels are one number, others several"):
        ReadyDataset([(wave, 1), (wave, [1])], ["a", "b"])
    with pytest.raises(ValueError, match="label"):
        ReadyDataset([(wave, [3])], ["a", "b"])
    splits = {"train": items, "validation": items, "test": items}
    assert ready_splits(splits)["train"].classes == ["0", "1", "2"]


def fsd50k(root):
    tables = root / "FSD50K.ground_truth"
    tables.mkdir(parents=True)
    (tables / "vocabulary.csv").write_text("0,Bark,/m/05tny_\n1,Rain,/m/06mb1\n2,Wind,/m/03m9d0z\n")
    (tables / "dev.csv").write_text(
        'fname,labels,mids,split\n1,"Rain,Bark","/m/06mb1,/m/05tny_",train\n2,Wind,/m/03m9d0z,val\n3,Bark,/m/05tny_,train\n'
    )
    (tables / "eval.csv").write_text('fname,labels,mids\n9,"Wind,Rain","/m/03m9d0z,/m/06mb1"\n')
    sounds(root / "FSD50K.dev_audio", "1.wav", "2.wav", "3.wav")
    sounds(root / "FSD50K.eval_audio", "9.wav")


def test_fsd50k_as_published(tmp_path):
    fsd50k(tmp_path)
    found = {split: open_data("fsd50k", split, root=tmp_path) for split in ("train", "validation", "test")}
    assert all(data.classes == ["Bark", "Rain", "Wind"] for data in found.values())
    assert [data.labels for data in found.values()] == [[(0, 1), (0,)], [(2,)], [(1, 2)]]
    assert [path.name for path in found["train"].paths] == ["1.wav", "3.wav"]


def test_fsd50k_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vocabulary\.csv: no such table"):
        FSD50K(tmp_path, "train")
    fsd50k(tmp_path)
    (tmp_path / "FSD50K.dev_audio" / "3.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"dev\.csv names 1 files that are not there: .*3\.wav"):
        FSD50K(tmp_path, "train")
    (tmp_path / "FSD50K.ground_truth" / "eval.csv").write_text("fname,labels,mids\n9,Thunder,/m/0\n")
    with pytest.raises(ValueError, match=r"eval\.csv, line 2: label 'Thunder' is not in"):
        FSD50K(tmp_path, "test")


def audioset(root, train, evaluation):
    (root / "class_labels_indices.csv").write_text(
        'index,mid,display_name\n0,/m/1,Speech\n1,/m/2,"Bark, loud"\n2,/m/3,Speech\n'
    )
    head = "# Segments csv created Sun Mar  5 10:54:31 2017\n# YTID, start_seconds, end_seconds, positive_labels\n"
    (root / "balanced_train_segments.csv").write_text(head + "".join(train))
    (root / "eval_segments.csv").write_text(head + "".join(evaluation))


def test_audioset_as_published(tmp_path):
    rows = [f'video{i:06d}, 30.000, 40.000, "/m/1,/m/2"\n' for i in range(60)]
    audioset(tmp_path, rows, ['--4gqARaEJE, 0.000, 10.000, "/m/3,/m/2"\n', 'gone, 0.000, 10.000, "/m/1"\n'])
    forms = ("{}.wav", "Y{}.wav", "{}_30.wav", "{}_30_40.wav", "{}_30000_40000.wav", "Y{}_30.000_40.000.wav")
    sounds(tmp_path / "audio" / "part00", *(forms[i % 6].format(f"video{i:06d}") for i in range(60)))
    sounds(tmp_path / "audio" / "eval", "Y--4gqARaEJE.wav")
    train, validation, test = (AudioSet(tmp_path, split) for split in ("train", "validation", "test"))
    assert train.classes == ["Speech (/m/1)", "Bark, loud", "Speech (/m/3)"]  # two classes of one name
    assert len(train) + len(validation) == 60
    assert 0 < len(validation) < 12
    assert set(train.labels) == {(0, 1)}
    assert not set(train.paths) & set(validation.paths)
    assert test.labels == [(1, 2)]
    assert test.passed_over == ["1 clips of eval_segments.csv that have no file"]


def test_all_of_audioset_has_the_unbalanced_clips_too(tmp_path):
    audioset(tmp_path, ['a1, 0.000, 10.000, "/m/1"\n'], ['e1, 0.000, 10.000, "/m/1"\n'])
    (tmp_path / "unbalanced_train_segments.csv").write_text('b1, 0.000, 10.000, "/m/2"\nb2, 0.000, 10.000, "/m/3"\n')
    sounds(tmp_path / "x", "a1.wav", "b1.wav", "b2.wav", "e1.wav")
    assert len(open_data("audioset", "train", root=tmp_path)) == 1
    assert open_data("audioset_full", "train", root=tmp_path).labels == [(0,), (1,), (2,)]


def test_audioset_says_what_is_wrong(tmp_path):
    audioset(tmp_path, ['a1, 0.000, 10.000, "/m/9"\n'], ["e1, zero, 10.000, /m/1\n"])
    with pytest.raises(ValueError, match=r"balanced_train_segments\.csv, line 3: '/m/9' is not in class_labels"):
        AudioSet(tmp_path, "train")
    with pytest.raises(ValueError, match=r"eval_segments\.csv, line 3: 'zero' to '10\.000': expected seconds"):
        AudioSet(tmp_path, "test")
    (tmp_path / "eval_segments.csv").write_text("e1, 0.000, 10.000, /m/1\n")
    with pytest.raises(
        ValueError, match="none of the 1 clips of the split 'test' is there; expected files named by their video"
    ):
        AudioSet(tmp_path, "test")

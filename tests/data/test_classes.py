"""Classes are compared by name, not by number."""

import pytest

from specenhance.data import AudioDataset
from specenhance.data.classes import with_classes


def test_the_same_names_in_another_order_are_mapped():
    data = AudioDataset(["a", "b", "c"], [0, 1, 2, 1])
    same = with_classes(data, ["a", "b", "c"], "the model")
    assert same is data
    other = with_classes(data, ["c", "a", "b"], "the model")
    assert other.classes == ["c", "a", "b"]
    assert [other.classes[label] for label in other.labels] == ["a", "b", "c", "b"]
    assert data.labels == [0, 1, 2, 1]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            ["b", "c", "d"],
            r"the data has 3 \('a', 'b', 'c'\), the model has 3 .*only the data has 'a'; only the model has 'd'",
        ),
        (["a", "b"], "only the data has 'c'. Give data of the same classes"),
        (["a", "b", "c", "d"], "only the model has 'd'. Give"),
        (["a", "a", "b", "c"], "one stands twice"),
        ([f"{i:02}" for i in range(20)], "only the model has '00', '01', '02', '03', '04', '05', '06', '07', 12 more"),
    ],
)
def test_other_names_are_an_error_that_lists_both_sides(classes, message):
    with pytest.raises(ValueError, match=message):
        with_classes(AudioDataset(["a", "b", "c"], [0]), classes, "the model")

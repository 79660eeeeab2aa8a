import numpy as np
import pytest

from fmnist_jax.data.array_checks import check_shapes, to_arrays, to_class_names
from fmnist_jax.errors import DataError


def test_arrays_are_not_copied_and_empty_lists_are_whole_numbers() -> None:
    images, labels = np.zeros((0, 8, 8), np.uint8), np.zeros(0, np.int64)
    converted = to_arrays(images, labels)
    assert converted[0] is images
    assert converted[1] is labels
    assert to_arrays(images, [])[1].dtype == np.int32
    assert to_arrays(images, np.zeros(0))[1].dtype == np.float64  # as it was given


def test_ragged_images_or_labels_are_rejected() -> None:
    with pytest.raises(DataError, match=r"do not form an array \(.*\): expected images of one shape"):
        to_arrays([np.zeros((8, 8)), np.zeros((9, 8))], [0, 1])


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 8, 9, 1), (2, 9, 8, 3), (0, 8, 8)])
def test_grey_and_colour_images_of_eight_pixels_or_more_are_accepted(shape: tuple[int, ...]) -> None:
    check_shapes(np.zeros(shape, np.uint8), np.zeros(shape[0], np.int16))


@pytest.mark.parametrize(
    "shape", [(), (2,), (2, 8), (2, 7, 8), (2, 8, 7, 1), (2, 8, 8, 2), (2, 8, 8, 0), (2, 8, 8, 1, 1)]
)
def test_images_of_other_shapes_are_rejected_with_the_shape_given(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError) as exc_info:
        check_shapes(np.zeros(shape, np.uint8), np.zeros(2, np.int32))
    assert str(exc_info.value).startswith(
        f"images are uint8{list(shape)}: expected uint8[2, H, W] or uint8[2, H, W, C], "
    )


@pytest.mark.parametrize("labels", [np.zeros(2), np.zeros((2, 1), np.int32), np.array(["a", "b"])])
def test_labels_that_are_not_one_whole_number_per_image_are_rejected(labels: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"labels are .*: expected whole numbers \[2\]"):
        check_shapes(np.zeros((2, 8, 8), np.uint8), labels)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("a", "\ud800"), "is not valid Unicode"),
        (("a", " "), "cannot be displayed"),
        (("a", "b\nc"), "cannot be displayed"),
        (("a", "b", "a"), "class names repeat 'a'"),
        ((b"a", b"b"), "the class name b'a' is bytes: decode it"),
    ],
)
def test_class_names_that_cannot_be_told_apart_on_a_line_are_rejected(names: tuple[object, ...], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        to_class_names(names)
    assert to_class_names(np.array(["Ärmel", "T-shirt/top", "外套"])) == ("Ärmel", "T-shirt/top", "外套")

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from fmnist_jax.data import photos, synthetic
from fmnist_jax.data.photos import Frame, to_dataset_image

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
UPPER_LEFT = (slice(40, 240), slice(30, 130))  # an object of 200x100 pixels


def make_picture(
    background: tuple[int, ...] = WHITE,
    cloth: tuple[int, ...] = (60, 20, 90),
    at: tuple[slice, slice] = UPPER_LEFT,
    size: tuple[int, int] = (400, 300),
) -> np.ndarray:
    pixels = np.empty((*size, len(background)), np.uint8)
    pixels[:] = background
    pixels[at] = cloth
    return pixels


def bounds(image: np.ndarray, above: int = 100) -> tuple[int, int, int, int]:
    rows, columns = (np.flatnonzero((image[..., 0] > above).any(axis)) for axis in (1, 0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


@pytest.mark.parametrize(
    ("background", "cloth", "kind"),
    [
        (WHITE, (60, 20, 90), "light"),
        (BLACK, (230, 200, 120), "dark"),
        ((250, 250, 245), (255, 0, 0), "light"),
        ((140, 140, 140), (255, 255, 255), "light"),
        ((110, 110, 110), (0, 0, 0), "dark"),
        ((60, 120, 60), (170, 60, 60), "dark"),  # both equally bright, thus indistinguishable in grey
    ],
)
def test_object_is_bright_on_black_centred_and_as_large_as_possible(
    background: tuple[int, int, int], cloth: tuple[int, int, int], kind: str
) -> None:
    prepared = to_dataset_image(make_picture(background, cloth))
    assert (prepared.image.shape, prepared.image.dtype.name) == ((28, 28, 1), "uint8")
    assert prepared.background == (kind, background)
    assert bounds(prepared.image) == (7, 0, 21, 28)
    inside, outside = prepared.image[4:24, 9:19], prepared.image[:, [0, 1, 2, 3, 24, 25, 26, 27]]
    assert 215 <= inside.min() <= inside.max() <= 235
    assert not outside.any()


def test_box_bounds_the_object_in_pixels_of_the_picture() -> None:
    for scale in (1, 5):
        pixels = np.kron(make_picture(), np.ones((scale, scale, 1), np.uint8))
        box = to_dataset_image(pixels).box
        np.testing.assert_allclose(np.array(box) / scale, (30, 40, 130, 240), atol=3)


def test_image_does_not_depend_on_the_position_of_the_object() -> None:
    positions = [(slice(0, 200), slice(0, 100)), UPPER_LEFT, (slice(199, 399), slice(199, 299))]
    images = [to_dataset_image(make_picture(at=position)).image.astype(int) for position in positions]
    assert max(np.abs(image - images[0]).max() for image in images) < 60
    assert max(np.abs(image - images[0]).mean() for image in images) < 3
    small = to_dataset_image(make_picture(at=UPPER_LEFT, size=(1600, 1200))).image.astype(int)
    assert np.abs(small - images[1]).mean() < 15


def test_negative_of_a_picture_on_black_gives_the_same_image() -> None:
    images, _ = synthetic.draw(6, 3)
    for image in images:
        enlarged = np.kron(image, np.ones((16, 16, 1), np.uint8))
        on_black = to_dataset_image(np.pad(enlarged, ((99, 99), (50, 50), (0, 0)))).image.astype(int)
        on_white = to_dataset_image(255 - np.pad(enlarged, ((99, 99), (50, 50), (0, 0)))).image.astype(int)
        assert np.abs(on_black - on_white).max() <= 2


def test_shades_keep_their_order_and_proportion() -> None:
    pixels = make_picture(cloth=(0, 0, 0))
    pixels[140:240, 30:130] = 128
    image = to_dataset_image(pixels).image[..., 0].astype(float)
    assert image[20, 14] / image[6, 14] == pytest.approx(127 / 255, abs=0.02)


def test_contrast_of_a_faint_object_is_increased() -> None:
    prepared = to_dataset_image(make_picture(cloth=(230, 230, 230)))
    assert prepared.contrast > 5
    assert prepared.image[14, 14, 0] > 200


def test_object_that_differs_little_from_the_background_is_found() -> None:
    pixels = np.full((300, 300), 52000, np.uint16)
    pixels[60:240, 100:190] = 50000
    assert bounds(to_dataset_image(pixels).image) == (7, 0, 21, 28)


def test_thin_lines_are_bright_and_not_filled_in() -> None:
    pixels = make_picture(cloth=WHITE)
    pixels[40:240, [30, 31, 32, 127, 128, 129]] = pixels[237:240, 30:130] = 0
    image = to_dataset_image(pixels).image
    assert image.max() > 200
    assert not image[8:20, 10:18].any()


def test_closed_outline_is_filled_and_reported_as_a_doubt() -> None:
    pixels = make_picture(cloth=WHITE)
    for line in (slice(40, 43), slice(237, 240)):
        pixels[line, 30:130] = pixels[40:240, [30, 31, 32, 127, 128, 129]] = 0
    prepared = to_dataset_image(pixels)
    assert prepared.doubts == ("outline",)
    assert prepared.image[4:24, 9:19].min() > 200


def test_one_shoe_of_a_pair_is_shown_horizontally() -> None:
    pixels = make_picture()
    pixels[40:240, 30:130] = WHITE
    for left in (60, 160):
        pixels[100:300, left : left + 70] = (60, 20, 90)
    prepared = to_dataset_image(pixels)
    assert prepared.doubts == ("a pair",)
    assert bounds(prepared.image) == (0, 9, 28, 19)
    assert prepared.box is not None
    np.testing.assert_allclose(prepared.box, (60, 100, 130, 300), atol=3)


def test_object_with_fewer_pixels_than_the_image_is_reported_as_very_small() -> None:
    assert to_dataset_image(make_picture(at=(slice(40, 60), slice(30, 50)))).doubts == ("very small",)


def test_odd_margin_is_larger_on_the_left() -> None:
    image = to_dataset_image(make_picture(at=(slice(40, 320), slice(30, 180)))).image
    assert bounds(image) == (7, 0, 22, 28)


@pytest.mark.parametrize(
    ("frame", "at", "expected"),
    [
        (Frame(20, 0), UPPER_LEFT, (9, 4, 19, 24)),
        (Frame(20, 25), UPPER_LEFT, (9, 5, 19, 25)),
        (Frame(24, 25), (slice(40, 140), slice(30, 230)), (2, 13, 26, 25)),
        (Frame(24, 28), (slice(40, 140), slice(30, 230)), (2, 16, 26, 28)),
        (Frame(24, 10), UPPER_LEFT, (8, 2, 20, 26)),
    ],
)
def test_frame_sets_the_size_and_the_floor_of_the_object(
    frame: Frame, at: tuple[slice, slice], expected: tuple[int, int, int, int]
) -> None:
    assert bounds(to_dataset_image(make_picture(at=at), frame).image) == expected


def test_small_object_in_a_large_picture_is_processed_at_higher_resolution() -> None:
    pixels = make_picture(WHITE, (60, 20, 90), (slice(900, 1000), slice(500, 550)), (1600, 1200))
    pixels[940:960, 515:535] = WHITE
    full = to_dataset_image(pixels)
    cropped = to_dataset_image(pixels[840:1060, 440:610])
    assert full.box == (500, 900, 550, 1000)
    assert np.abs(full.image.astype(int) - cropped.image).mean() < 5


def test_other_objects_beside_a_small_one_are_reported_despite_higher_resolution() -> None:
    pixels = np.full((1600, 1600, 3), 255, np.uint8)
    pixels[700:900, 200:400] = pixels[700:900, 1100:1300] = 0
    prepared = to_dataset_image(pixels)
    assert prepared.doubts == ("several objects",)
    assert prepared.box is not None
    assert abs(prepared.box[3] - prepared.box[1] - 200) < 10  # it was processed at a higher resolution


def test_image_larger_than_the_working_size_is_as_sharp_as_the_file() -> None:
    stripes = np.zeros((512, 700, 3), np.uint8)
    stripes[:, ::2] = 255
    np.testing.assert_array_equal(photos.to_shape(stripes, (512, 512, 3)).image, stripes[:, 94:606])


@pytest.mark.parametrize("shape", [(12_000, 60), (60, 12_000)])
def test_long_narrow_picture_keeps_its_resolution_across(shape: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), 255, np.uint8)
    pixels[15:45, 15:45] = 0
    prepared = to_dataset_image(pixels)
    assert prepared.box is not None
    np.testing.assert_allclose(prepared.box, (15, 15, 45, 45), atol=3)
    assert bounds(prepared.image) == (0, 0, 28, 28)


def test_scale_bounds_the_length_of_extremely_narrow_pictures() -> None:
    assert photos._scale(1, 64_000_000, 320, 32) * 64_000_000 <= 12_800
    assert photos._scale(12_000, 60, 320, 32) * 60 == 32


def test_background_noise_is_not_part_of_the_object() -> None:
    rng = np.random.default_rng(0)
    noisy = np.clip(make_picture((200, 200, 200)) + rng.normal(0, 15, (400, 300, 3)), 0, 255).astype(np.uint8)
    prepared = to_dataset_image(noisy)
    assert bounds(prepared.image) == (7, 0, 21, 28)
    assert not prepared.image[:, :5].any()


def test_object_touching_the_edge_is_found_on_a_gradient() -> None:
    fade = np.linspace(250, 150, 300)[None, :, None] - np.linspace(0, 40, 400)[:, None, None]
    pixels = np.broadcast_to(fade, (400, 300, 3)).astype(np.uint8)
    pixels[100:300, 0:100] = (30, 30, 60)
    prepared = to_dataset_image(pixels)
    assert bounds(prepared.image) == (7, 0, 21, 28)
    assert not prepared.image[:, :5].any()


def test_dust_is_left_out_and_a_separate_part_is_kept() -> None:
    pixels = make_picture()
    pixels[380:384, 280:284] = 0
    assert bounds(to_dataset_image(pixels).image) == (7, 0, 21, 28)
    pixels[340:390, 200:260] = 0
    _, _, right, bottom = to_dataset_image(pixels).box or (0, 0, 0, 0)
    assert right > 250
    assert bottom > 380


@pytest.mark.parametrize("cloth", [BLACK, WHITE, (120, 30, 30)])
def test_transparent_pixels_are_background_whatever_their_colour(cloth: tuple[int, int, int]) -> None:
    for hidden in (WHITE, BLACK, (255, 0, 255)):
        prepared = to_dataset_image(make_picture((*hidden, 0), (*cloth, 255)))
        assert prepared.background.kind == "transparent"
        assert bounds(prepared.image) == (7, 0, 21, 28)


def test_16_bit_pictures_match_8_bit_ones() -> None:
    grey = make_picture((250,), (40,))
    eight_bit = to_dataset_image(grey)
    sixteen_bit = to_dataset_image(grey.astype(np.uint16) * 257)
    assert np.abs(eight_bit.image.astype(int) - sixteen_bit.image).max() <= 1
    assert eight_bit[1:3] == sixteen_bit[1:3]
    np.testing.assert_array_equal(to_dataset_image(grey[..., 0]).image, eight_bit.image)


@pytest.mark.parametrize("background", [WHITE, BLACK, (128, 128, 128), (10, 200, 30)])
def test_blank_picture_has_no_box_and_a_black_image(background: tuple[int, int, int]) -> None:
    prepared = to_dataset_image(make_picture(background, background))
    assert prepared.box is None
    assert not prepared.image.any()


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 3), np.int64),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((4,), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
    ],
)
def test_invalid_pixel_arrays_are_rejected(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 or uint16 \[H, W, C\] with C in 1\.\.4"):
        to_dataset_image(pixels)


EDGES = st.integers(1, 70) | st.sampled_from([1, 2, 900, 1500])
SHAPES = st.tuples(EDGES, EDGES).filter(lambda shape: shape[0] * shape[1] <= 100_000)


@given(st.data(), SHAPES, st.integers(0, 4), st.sampled_from([np.uint8, np.uint16]), st.sampled_from([0, 28]))
def test_any_picture_gives_a_valid_image_background_contrast_and_box(
    data: st.DataObject, shape: tuple[int, int], channels: int, dtype: type, floor: int
) -> None:
    full = shape if not channels else (*shape, channels)
    if data.draw(st.booleans()):
        pixels = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, np.iinfo(dtype).max + 1, full)
        pixels = pixels.astype(dtype)
    else:
        pixels = data.draw(hnp.arrays(dtype, full, fill=st.integers(0, np.iinfo(dtype).max)))
    prepared = to_dataset_image(pixels, Frame(data.draw(st.integers(1, 28)), floor))
    assert prepared.image.shape == (28, 28, 1)
    assert prepared.image.dtype == np.uint8
    assert prepared.background.kind in ("light", "dark", "transparent")
    assert all(0 <= level <= 255 for level in prepared.background.colour)
    assert 0 < prepared.contrast <= 30
    if prepared.box is None:
        assert not prepared.image.any()
        return
    left, top, right, bottom = prepared.box
    assert 0 <= left < right <= shape[1]
    assert 0 <= top < bottom <= shape[0]
    assert prepared.image.any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 3), (40, 30), (2, 2)])
def test_thumbnail_keeps_the_proportions(shape: tuple[int, int]) -> None:
    small = photos.thumbnail(np.full((*shape, 4), 255, np.uint8), 100)
    scale = min(1, 100 / max(shape))
    assert small.shape == (max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale)), 3)
    assert small.dtype == np.uint8
    assert (small == 255).all()


def test_to_shape_crops_the_centre_and_keeps_colours() -> None:
    pixels = np.zeros((40, 100, 3), np.uint8)
    pixels[:, 30:50], pixels[:, 50:70], pixels[:, :30] = (200, 10, 0), (0, 60, 250), 255
    prepared = photos.to_shape(pixels, (8, 8, 3))
    assert prepared.box == (30, 0, 70, 40)
    np.testing.assert_array_equal(prepared.image[:, :4], np.broadcast_to([200, 10, 0], (8, 4, 3)))
    np.testing.assert_array_equal(prepared.image[:, 4:], np.broadcast_to([0, 60, 250], (8, 4, 3)))
    grey = photos.to_shape(pixels, (4, 10, 1))
    assert grey.box == (0, 0, 100, 40)
    np.testing.assert_array_equal(grey.image[0, [0, 4, 5, 9], 0], [255, 66, 64, 0])
    assert photos.to_shape(np.zeros((1, 1), np.uint16), (9, 8, 3)).image.shape == (9, 8, 3)


@given(SHAPES, st.sampled_from([1, 3]), st.integers(8, 40), st.integers(8, 40))
def test_to_shape_accepts_pictures_and_shapes_of_any_size(
    shape: tuple[int, int], channels: int, height: int, width: int
) -> None:
    prepared = photos.to_shape(np.full((*shape, 4), 255, np.uint8), (height, width, channels))
    assert prepared.image.shape == (height, width, channels)
    assert (prepared.image == 255).all()
    assert prepared.box is not None
    left, top, right, bottom = prepared.box
    assert 0 <= left < right <= shape[1]
    assert 0 <= top < bottom <= shape[0]

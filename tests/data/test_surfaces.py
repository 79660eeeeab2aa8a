import numpy as np
import pytest

from fmnist_jax.data import surfaces
from fmnist_jax.data.segmentation import border_mask

Y, X = np.mgrid[-1:1:60j, -1:1:80j].astype(np.float32)
BORDER = border_mask(60, 80)
PLANE = np.stack([0.5 + 0.2 * X - 0.1 * Y, 0.4 + 0 * X, 0.6 - 0.1 * X], -1).astype(np.float32)
SHADE = np.stack([0.8 - 0.15 * X**2 - 0.2 * Y**2] * 3, -1).astype(np.float32)


@pytest.mark.parametrize(
    ("fit", "background"),
    [(surfaces.fit_plane, PLANE), (surfaces.fit_paraboloid, PLANE), (surfaces.fit_paraboloid, SHADE)],
)
@pytest.mark.parametrize("region", [np.s_[20:40, 20:50], np.s_[20:40, 0:30]])
def test_fit_continues_the_background_behind_an_object_even_at_the_border(
    fit: object, background: np.ndarray, region: tuple[slice, slice]
) -> None:
    assert callable(fit)
    covered = background.copy()
    covered[region] = 0
    surface = fit(covered, BORDER)
    np.testing.assert_allclose(surface.colours, background, atol=1e-3)
    assert surface.residual < 1e-3


def test_plane_fits_curved_shading_badly() -> None:
    assert surfaces.fit_plane(SHADE, BORDER).residual > 0.02


def test_distances_are_root_mean_squares() -> None:
    actual = surfaces.distances(np.array([[[0.3, 0.0, 0.4]]]), np.zeros(3))
    np.testing.assert_allclose(actual, [[0.5 / np.sqrt(3)]])

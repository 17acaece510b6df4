"""What the service's tests have, for the studies of it."""

from tests.service.conftest import image_root, live, make_model, weights

__all__ = ["image_root", "live", "make_model", "weights"]

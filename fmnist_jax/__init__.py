"""Fashion-MNIST the way JAX wants programs written: pure functions over explicit state.

Every part can be imported from here by name, jitted, mapped, scanned, sharded or replaced; `__init__.pyi`
lists them. Each part's module is imported on first use, so `import fmnist_jax` costs next to nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

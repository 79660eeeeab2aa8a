"""The package against a plain JAX loop and PyTorch; `experiments/README.md` defines each figure."""

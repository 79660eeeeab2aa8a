"""Where images come from: Fashion-MNIST through TFDS, synthetic garments, people's own files and pictures.

May import `functional`, `config`, `system`, `errors`. Knows nothing of models and runs.
Read first: `dataset.load`.
"""

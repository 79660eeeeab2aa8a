"""The core, which research code imports: networks, augmentations, optimisers, the training step, evaluation.

May import `config`, `errors`. Pure functions only: no file, clock, print or hidden state, nothing jitted on import.
Read first: `train_step.make_train_step`.
"""

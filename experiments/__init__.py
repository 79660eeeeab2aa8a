"""Uses of the package, built of what it exports alone: each is an example of how to build on it."""

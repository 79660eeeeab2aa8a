"""What the presets reach: `record` trains and writes a file a run, `tables` makes the README's tables of them."""

"""What the presets reach: `record` trains and writes a file per run, `tables` turns them into the README's tables."""

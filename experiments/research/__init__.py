"""Small experiments on exported parts, each a single file that asks one question and measures the answer."""

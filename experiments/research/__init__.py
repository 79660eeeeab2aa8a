"""Small experiments, each one file of exported parts that asks one question and has its answer measured."""

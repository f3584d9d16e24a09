"""Load: what folds cost, how many a server makes, who waits for whom, and what it holds afterwards."""

"""What to do where no verdict is possible: the end of each reason."""

SAMPLES = "give samples of its use (`inputs`)"
MORE_SAMPLES = "give other samples of its use (`inputs`)"  # in place of SAMPLES where some were given
OTHER_SAMPLES = "give samples on which it does not (`inputs`)"
HALVES = "give samples of its use (`inputs`), or leave more in float32 (`keep_fp32`, `precision`)"
RUNTIME = "compare both files in the runtime that they are for"
AS_IT_IS = "choose another target, or leave more in float32 (`keep_fp32`, `precision`)"
MEMORY = "verify it on a machine with more memory: bnfold verify BEFORE AFTER"
SMALLER = "give smaller samples (`inputs`)"

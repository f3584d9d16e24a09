"""Process: limits of this process and its children, and how signals end it. Import its modules one by one.

bounds (limits; no child outlives its parent), forked (run one function in a fork), fork (the same, with the interface
of `subprocess.Popen`), quit (Ctrl-C while modules are imported), signals (end as after Ctrl-C), garbage (collected more
rarely while much is built that stays).

May import: nothing of bnfold.
"""

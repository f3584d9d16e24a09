"""Remove what computes nothing or the same thing twice: constant arithmetic, no-ops, dead and equal parts."""

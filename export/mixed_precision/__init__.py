"""Mixed precision: the effect of rounding each block on the output, and the smallest program of a given quality."""

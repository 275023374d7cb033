"""Mixed precision: what rounding each block costs the output, and the smallest program that keeps an asked quality."""

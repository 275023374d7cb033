"""Parts of the benchmark of Frechet distances: the ways that published code takes, and sets with a known answer."""

"""Parts of `injected_faults.py`: the test bed, the faults, and one measurement in a process of its own."""

"""Parts of `injected_faults.py`."""

"""The HTML report of one run or several: what is read of a run, tables and drawings made of it, and the page."""

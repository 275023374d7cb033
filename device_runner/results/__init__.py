"""Results after they are measured: reading and checking, showing, tables and pages, comparison."""

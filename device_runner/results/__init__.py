"""What is done with results once they are measured: read and checked, shown, written as tables and pages, compared."""

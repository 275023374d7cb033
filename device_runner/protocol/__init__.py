"""The protocol of a measurement, whatever is measured: settings, the rule for stopping, statistics."""

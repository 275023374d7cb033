"""How a measurement is made and summed up, whatever is measured: settings, the rule when to stop, statistics."""

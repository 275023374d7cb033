"""Seeing a training while it runs: its log, trackers, rates, validations and the map of its gates."""

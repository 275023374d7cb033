"""The networks whose features are compared; their weights are the user's, see `eval.weights`."""

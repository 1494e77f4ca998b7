"""The options of every layer: exact bytes, the error of the weights, predicted damage."""

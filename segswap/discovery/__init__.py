"""Objects that a collection shares: the correspondence graph, its principal eigenvector, segmentations."""

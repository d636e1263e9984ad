"""Versions of what each stage makes: a number goes up when the same inputs and settings give other outputs.

The workflow lists them among the parameters of its rules, so that a change of meaning reruns the stage, and a
change of code that keeps the meaning does not. Nothing is imported here: planning a run stays fast.
"""

RECIPE = 2
"""The draws of a pair: ``segswap.pairs.recipe``."""

DEMO_WORLD = 1
OBJECT_TABLE = 2
SEGMENTS = 1
JOINED_OBJECTS = 1
STYLE_STATISTICS = 1
PAIRS = 3
"""Pictures and labels of a pair, given its recipe, and the manifest of a shard."""

BACKBONES = 1
"""Weights of others as a backbone of ours."""

ALTERED = 1
"""Queries of altered details."""

FEATURES = 3
PRETRAINING = 1
TRAINING = 2
COLLECTION = 1
"""The images of a collection, and which of its pairs are matched."""

PREDICTIONS = 2
GRAPH = 1
"""The correspondence graph, and its eigenvectors."""

SEGMENTATION = 1
"""Masks, segmentations and regions of an eigenvector."""

METRICS = 2
TABLES = 3
PICTURES = 5
PROVENANCE = 1

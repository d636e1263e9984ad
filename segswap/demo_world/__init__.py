"""The demo world: procedurally drawn scenes in COCO format, style images and miniatures of every benchmark.

Everything is drawn from a seed, without any downloaded data, in the folder layouts of the real data sets, so
the same programs run on it and on them.
"""

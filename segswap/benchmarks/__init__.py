"""One module per benchmark, each with four steps: load the data set, predict, compute metrics, draw pictures.

Predictions are stored (Parquet), metrics are computed from them without a model (JSON).
"""

"""The benchmarks: each loads its data set, predicts, computes metrics and draws pictures.

Predictions are stored, and everything behind them (metrics, pictures, discovery) is computed without a model. Only
the modules ``*_matching`` need one: the others start in a fraction of a second, not in the seconds that PyTorch takes.
"""

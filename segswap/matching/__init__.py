"""Matching with features given: the feature store, prediction of pairs, their score, and the cosine baseline."""

"""Training: batches from shards, augmentation, losses, the loop of both stages, hard negatives, pretraining."""

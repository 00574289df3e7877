"""Training on several ranks: seeds that do not depend on their number, sharded weights, gathered values."""

"""Our search beside the vendors' tools: the same network, data and bits a weight, the same final retraining."""

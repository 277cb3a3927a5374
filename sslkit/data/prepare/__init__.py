"""From a source to packed shards: subset, archives, packing."""

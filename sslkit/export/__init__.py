"""An encoder for other libraries."""

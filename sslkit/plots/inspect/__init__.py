"""Pictures of what `sslkit.probes.inspect` measures."""

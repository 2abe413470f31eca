"""The incident laboratory: real JVMs, a real Prometheus, real git, and real incidents within minutes."""

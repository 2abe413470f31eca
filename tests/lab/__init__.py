"""The incident laboratory: real JVMs, a real Prometheus and real git, brought to real incidents within minutes."""

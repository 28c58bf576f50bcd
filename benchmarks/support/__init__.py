"""What several benchmarks share: servers, services, weights, synthetic models, CSV files."""

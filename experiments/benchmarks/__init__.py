"""What `experiments.benchmark` measures, one family of workloads a file."""

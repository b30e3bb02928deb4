"""Questions, metrics, baselines and evaluation."""

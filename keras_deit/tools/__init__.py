"""What only commands use: the distillation ablation, benchmarks, ahead-of-time compilation."""

"""Training: the state, one step, the loop around it, optimizers, schedules, checkpoints, metrics."""

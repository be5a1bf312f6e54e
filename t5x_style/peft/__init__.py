"""Parameter-efficient tuning: modules that are attached to a model after it is built."""

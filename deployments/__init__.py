"""Where and when flows run: the `ratchet` command, deployments, schedules, the demo."""

"""From a prepared folder to batches in a seeded order."""

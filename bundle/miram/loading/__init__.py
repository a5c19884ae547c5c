"""Loading a prepared folder as batches in a seeded order."""

"""What training minimises, and what an untrained guess would cost."""

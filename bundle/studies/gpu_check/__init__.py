"""What only a GPU can show, measured in minutes: read check.py first."""

"""Bundles for other tools: what they contain, how they are made, and what their configs call."""

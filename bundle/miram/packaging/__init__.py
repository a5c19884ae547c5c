"""Bundles for other people's tools: what lies in them, how they are made, and what their configs call."""

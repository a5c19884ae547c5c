"""Decoders: from the encoder's tokens to the pixels of one scale."""

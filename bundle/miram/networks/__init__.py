"""Networks: the ViT encoder, one decoder per scale, MIRAM, and the classifier."""

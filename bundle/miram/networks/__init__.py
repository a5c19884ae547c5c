"""Networks: the ViT encoder, one decoder per scale, MIRAM, and the exchange with stock MONAI networks."""

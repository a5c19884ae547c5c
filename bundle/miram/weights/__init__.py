"""Exchange of weights: our files, stock MONAI, timm and Hugging Face."""

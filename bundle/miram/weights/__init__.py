"""Reading and writing weights: our files, stock MONAI, timm and Hugging Face."""

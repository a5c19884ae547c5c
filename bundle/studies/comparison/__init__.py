"""A comparison of methods, pretrained, fine-tuned and evaluated in the same way on the same data, labels and seeds."""

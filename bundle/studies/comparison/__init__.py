"""A comparison of methods: pretrained, fine-tuned and evaluated alike, on the same data, labels and seeds."""

"""From a folder of images or a data set to a prepared folder, which all configs read."""
